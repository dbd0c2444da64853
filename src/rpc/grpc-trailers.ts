import { encodeStatus, type Status } from "./error-codes.ts";

/** The trailers of a call that ended with `status`, as gRPC spells them. */
export function grpcTrailers(status: Status): Record<string, string> {
	return {
		"grpc-status": String(status.code),
		"grpc-message": percentEncode(status.message),
		"grpc-status-details-bin": unpaddedBase64(encodeStatus(status)),
	};
}

/** The trailers of a call that went well. */
export const OK_TRAILERS: Readonly<Record<string, string>> = Object.freeze({ "grpc-status": "0" });

const PLAIN = /^[ -$&-~]*$/;

/** `grpc-message`: every byte of UTF-8 outside space to `~`, and `%` itself, as `%XX`. */
export function percentEncode(text: string): string {
	if (PLAIN.test(text)) return text;
	let encoded = "";
	for (const byte of Buffer.from(text, "utf8")) {
		const plain = byte >= 0x20 && byte <= 0x7e && byte !== 0x25;
		encoded += plain ? String.fromCharCode(byte) : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
	}
	return encoded;
}

/** Binary header values are base64 without padding. */
function unpaddedBase64(bytes: Uint8Array): string {
	return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64").replace(/=+$/, "");
}
