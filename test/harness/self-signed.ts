import { createSign, generateKeyPairSync, randomBytes } from "node:crypto";

const tlv = (tag: number, ...parts: Uint8Array[]): Buffer => {
	const body = Buffer.concat(parts);
	const length =
		body.length < 128
			? Buffer.from([body.length])
			: body.length < 256
				? Buffer.from([0x81, body.length])
				: Buffer.from([0x82, body.length >> 8, body.length & 255]);
	return Buffer.concat([Buffer.from([tag]), length, body]);
};
const sequence = (...parts: Uint8Array[]) => tlv(0x30, ...parts);
const oid = (hex: string) => tlv(0x06, Buffer.from(hex, "hex"));
const time = (text: string) => tlv(0x17, Buffer.from(text));

const ECDSA_SHA256 = sequence(oid("2a8648ce3d040302"));

/** A certificate for 127.0.0.1 and localhost that signs itself, and its key, as PEM. Good from 2020 to 2049. */
export function selfSigned(commonName: string): { cert: string; key: string } {
	const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
	const name = sequence(tlv(0x31, sequence(oid("550403"), tlv(0x0c, Buffer.from(commonName)))));
	const serial = randomBytes(8);
	serial[0]! &= 0x7f;
	serial[0]! |= 0x01;
	const names = sequence(tlv(0x82, Buffer.from("localhost")), tlv(0x87, Buffer.from([127, 0, 0, 1])));
	const extensions = tlv(0xa3, sequence(sequence(oid("551d11"), tlv(0x04, names))));
	const body = sequence(
		tlv(0xa0, tlv(0x02, Buffer.from([2]))),
		tlv(0x02, serial),
		ECDSA_SHA256,
		name,
		sequence(time("200101000000Z"), time("490101000000Z")),
		name,
		publicKey.export({ type: "spki", format: "der" }),
		extensions,
	);
	const signature = createSign("sha256").update(body).sign(privateKey);
	const der = sequence(body, ECDSA_SHA256, tlv(0x03, Buffer.from([0]), signature));
	const lines = der
		.toString("base64")
		.replace(/(.{64})/g, "$1\n")
		.trimEnd();
	return {
		cert: `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`,
		key: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
	};
}
