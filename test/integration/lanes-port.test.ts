import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import http2 from "node:http2";
import https from "node:https";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import tls from "node:tls";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { startEcho } from "../harness/echo-server.ts";
import { EchoService } from "../harness/gen/echo_pb.js";
import { rawCallOn, until } from "../harness/raw-grpc.ts";
import { selfSigned } from "../harness/self-signed.ts";

describe("TLS", () => {
	let folder: string;
	const files = () => ({ certFile: join(folder, "cert.pem"), keyFile: join(folder, "key.pem") });
	const write = (pair: { cert: string; key: string }) => {
		writeFileSync(files().certFile, pair.cert);
		writeFileSync(files().keyFile, pair.key);
	};

	beforeEach(() => {
		folder = mkdtempSync(join(tmpdir(), "hub-tls-"));
	});
	afterEach(() => rmSync(folder, { recursive: true }));

	it("serves both protocols on one port, on both lanes", async () => {
		const pair = selfSigned("first");
		write(pair);
		for (const fastLane of [true, false]) {
			await using echo = await startEcho({ tls: files(), fastLane });
			const ca = pair.cert;
			const grpc = createClient(EchoService, createGrpcTransport({ baseUrl: echo.url, nodeOptions: { ca } }));
			expect((await grpc.unary({ text: "h2" })).text).toBe("h2");
			const connect = createClient(
				EchoService,
				createConnectTransport({
					baseUrl: echo.url,
					httpVersion: "1.1",
					nodeOptions: { ca, agent: new https.Agent({ ca }) },
				}),
			);
			expect((await connect.unary({ text: "h1" })).text).toBe("h1");
		}
	});

	it("refuses cleartext", async () => {
		write(selfSigned("first"));
		await using echo = await startEcho({ tls: files() });
		const baseUrl = echo.url.replace("https", "http");
		const grpc = createClient(EchoService, createGrpcTransport({ baseUrl }));
		await expect(grpc.unary({})).rejects.toThrow();
		const socket = net.connect(echo.port, "127.0.0.1", () => socket.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
		socket.on("error", () => {});
		socket.resume();
		await new Promise((resolve) => socket.on("close", resolve));
	});

	it("closes a TLS handshake on a port without TLS", async () => {
		await using echo = await startEcho();
		const socket = tls.connect({ port: echo.port, host: "127.0.0.1", rejectUnauthorized: false });
		await new Promise((resolve) => socket.on("error", resolve));
	});

	it("uses a certificate that was replaced, and keeps the old one where the new one is broken", async () => {
		write(selfSigned("first"));
		await using echo = await startEcho({ tls: files() });
		const seen = () =>
			new Promise<string>((resolve, reject) => {
				const socket = tls.connect({ port: echo.port, host: "127.0.0.1", rejectUnauthorized: false }, () => {
					resolve(String(socket.getPeerCertificate().subject.CN));
					socket.destroy();
				});
				socket.on("error", reject);
			});
		expect(await seen()).toBe("first");
		writeFileSync(files().keyFile, "not a key");
		expect(echo.server.reloadTls()).toBe(false);
		expect(await seen()).toBe("first");
		// Found by watching the folder.
		write(selfSigned("second"));
		while ((await seen()) !== "second") await new Promise((resolve) => setTimeout(resolve, 20));
	});

	it("does not start without its files", async () => {
		await expect(startEcho({ tls: files() })).rejects.toThrow(/ENOENT/);
	});
});

describe("other HTTP", () => {
	it("routes what is not an RPC, on HTTP/1.1 and HTTP/2", async () => {
		await using echo = await startEcho({
			httpRoutes: (request, response) => {
				if (request.url !== "/livez") return false;
				(response as import("node:http").ServerResponse).writeHead(200, { "content-type": "text/plain" });
				response.end("ok");
				return true;
			},
		});
		expect(await (await fetch(`${echo.url}/livez`)).text()).toBe("ok");
		expect((await fetch(`${echo.url}/other`)).status).toBe(404);
		const session = http2.connect(echo.url);
		const stream = session.request({ ":path": "/livez" });
		const chunks: Buffer[] = [];
		for await (const chunk of stream) chunks.push(chunk as Buffer);
		expect(Buffer.concat(chunks).toString()).toBe("ok");
		session.destroy();
	});

	it("answers an HTTP route that throws, and goes on", async () => {
		await using echo = await startEcho({
			httpRoutes: (request) => {
				if (request.url === "/boom") throw new Error("boom");
				return false;
			},
		});
		await expect(fetch(`${echo.url}/boom`)).rejects.toThrow();
		expect((await fetch(`${echo.url}/other`)).status).toBe(404);
	});

	it("admits configured origins, and no other", async () => {
		await using echo = await startEcho({ cors: { origins: ["https://panel.example"] } });
		const url = `${echo.url}/test.echo.v1.EchoService/Unary`;
		const preflight = (origin: string) =>
			fetch(url, { method: "OPTIONS", headers: { origin, "access-control-request-method": "POST" } });
		const allowed = await preflight("https://panel.example");
		expect(allowed.status).toBe(204);
		expect(allowed.headers.get("access-control-allow-origin")).toBe("https://panel.example");
		expect(allowed.headers.get("access-control-allow-headers")).toContain("connect-protocol-version");
		const refused = await preflight("https://evil.example");
		expect(refused.status).toBe(403);
		expect(refused.headers.get("access-control-allow-origin")).toBeNull();
		const call = await fetch(url, {
			method: "POST",
			headers: { origin: "https://panel.example", "content-type": "application/json" },
			body: '{"text":"x"}',
		});
		expect(await call.json()).toEqual({ text: "x" });
		expect(call.headers.get("access-control-allow-origin")).toBe("https://panel.example");
		expect(call.headers.get("access-control-expose-headers")).toContain("grpc-status-details-bin");
	});

	it("says no to everyone by default", async () => {
		await using echo = await startEcho();
		const answer = await fetch(`${echo.url}/test.echo.v1.EchoService/Unary`, {
			method: "OPTIONS",
			headers: { origin: "https://panel.example", "access-control-request-method": "POST" },
		});
		expect(answer.status).toBe(403);
	});

	it("keeps a session whose peer answers pings, for as long as it likes", async () => {
		await using echo = await startEcho({
			limits: { firstStreamMs: 200, keepaliveIntervalMs: 20, keepaliveTimeoutMs: 1000 },
		});
		const session = http2.connect(echo.url);
		let pings = 0;
		session.on("ping", () => pings++);
		const call = () => rawCallOn(session, { path: "/test.echo.v1.EchoService/Bidi" });
		expect((await call()).grpcStatus).toBe("0");
		await until(() => pings > 20);
		expect((await call()).grpcStatus).toBe("0");
		session.destroy();
	});

	it("refuses an address that is taken", async () => {
		await using echo = await startEcho();
		const { server } = await startEcho();
		await expect(server.listen("127.0.0.1", echo.port)).rejects.toThrow();
		await server[Symbol.asyncDispose]();
	});
});
