import { renameSync, writeFileSync } from "node:fs";
import { get } from "node:https";
import { join } from "node:path";
import { connect, type PeerCertificate } from "node:tls";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterEach, beforeEach, expect, it } from "vitest";
import { connectClients, until } from "../harness/hub.ts";
import { HubProcess, TestFolder } from "../harness/hub-process.ts";
import { selfSigned } from "../harness/self-signed.ts";

let folder: TestFolder;
beforeEach(() => {
	folder = new TestFolder();
});
afterEach(() => folder[Symbol.dispose]());

it("a hub with TLS serves HTTP/2 and HTTP/1.1 on it, refuses cleartext, and takes a new certificate as it runs", async () => {
	const first = selfSigned("first");
	const certFile = join(folder.path, "cert.pem");
	const keyFile = join(folder.path, "key.pem");
	writeFileSync(certFile, first.cert);
	writeFileSync(keyFile, first.key);
	const flags = ["--tls-cert", certFile, "--tls-key", keyFile];
	await using hub = await HubProcess.start("memory", join(folder.path, "data"), { flags, ca: first.cert });
	expect(hub.url).toMatch(/^https:/);
	const port = Number(new URL(hub.url).port);

	expect((await hub.operator.hub.getHubInfo({})).backend).toBe("memory");
	expect(await statusOf(`${hub.url}/livez`, first.cert)).toBe(200);
	using plain = connectClients(hub.url.replace("https", "http"), hub.local.operatorToken);
	const refused = await plain.hub.getHubInfo({}, { timeoutMs: 5000 }).catch((error) => ConnectError.from(error).code);
	expect([Code.Unavailable, Code.Internal, Code.Unknown, Code.Aborted]).toContain(refused);
	await expect(fetch(`http://127.0.0.1:${port}/livez`)).rejects.toThrow();

	const second = selfSigned("second");
	writeFileSync(`${keyFile}.new`, second.key);
	writeFileSync(`${certFile}.new`, second.cert);
	renameSync(`${keyFile}.new`, keyFile);
	renameSync(`${certFile}.new`, certFile);
	await until(async () => (await certificateOn(port)).subject.CN === "second");
	expect(await statusOf(`${hub.url}/livez`, second.cert)).toBe(200);
	// The connection that was open before goes on.
	await hub.operator.hub.getHubInfo({});

	writeFileSync(certFile, "not a certificate");
	await until(() => hub.local.log().includes("the previous one stays"));
	expect((await certificateOn(port)).subject.CN).toBe("second");
});

async function statusOf(url: string, ca: string): Promise<number | undefined> {
	return await new Promise((resolve, reject) => {
		get(url, { ca, agent: false }, (response) => {
			response.resume();
			response.on("end", () => resolve(response.statusCode));
		}).on("error", reject);
	});
}

async function certificateOn(port: number): Promise<PeerCertificate> {
	return await new Promise((resolve, reject) => {
		// What is served is looked at; it is not yet known whom to trust.
		const socket = connect({ host: "127.0.0.1", port, rejectUnauthorized: false }, () => {
			const certificate = socket.getPeerCertificate();
			socket.destroy();
			resolve(certificate);
		});
		socket.on("error", reject);
	});
}
