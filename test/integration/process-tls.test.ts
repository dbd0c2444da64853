import { once } from "node:events";
import { renameSync, writeFileSync } from "node:fs";
import { get } from "node:https";
import net from "node:net";
import { join } from "node:path";
import { connect, type PeerCertificate } from "node:tls";
import { afterEach, beforeEach, expect, it } from "vitest";
import { until } from "../harness/hub.ts";
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
	expect(await answerInTheClear(port, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")).toBe("");
	expect(await answerInTheClear(port, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")).toBe("");

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

/** All that the hub sends to who begins with these bytes, until it hangs up. */
async function answerInTheClear(port: number, bytes: string): Promise<string> {
	const socket = net.connect(port, "127.0.0.1").setEncoding("latin1");
	socket.on("error", () => {});
	let answer = "";
	socket.on("data", (chunk) => {
		answer += chunk;
	});
	socket.write(bytes);
	await once(socket, "close");
	return answer;
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
