import http2 from "node:http2";
import net from "node:net";
import { gzipSync } from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type EchoServer, startEcho } from "../harness/echo-server.ts";
import { EchoRequestSchema } from "../harness/gen/echo_pb.js";
import { grpcFrame, rawCall, rawCallOn, until } from "../harness/raw-grpc.ts";

const SERVICE = "/test.echo.v1.EchoService";
const MIB = 1024 * 1024;
const hello = grpcFrame(toBinary(EchoRequestSchema, create(EchoRequestSchema, { text: "hello" })));
const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

function h2Frame(type: number, flags: number, streamId: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
	const frame = Buffer.alloc(9 + payload.byteLength);
	frame.writeUIntBE(payload.byteLength, 0, 3);
	frame[3] = type;
	frame[4] = flags;
	frame.writeUInt32BE(streamId, 5);
	frame.set(payload, 9);
	return frame;
}

const SETTINGS = h2Frame(4, 0, 0);

/** A connection with every byte in the test's hand. `closed` resolves when the server has hung up. */
function rawSocket(port: number): { socket: net.Socket; received: () => string; closed: Promise<void> } {
	const socket = net.connect(port, "127.0.0.1");
	const chunks: Buffer[] = [];
	socket.on("error", () => {});
	socket.on("data", (chunk) => chunks.push(chunk));
	const closed = new Promise<void>((resolve) => socket.on("close", () => resolve()));
	return { socket, received: () => Buffer.concat(chunks).toString("latin1"), closed };
}

/** Sends `chunk` again and again until the server hangs up or `times` are sent, as fast as the socket takes it. */
async function flood(socket: net.Socket, chunk: Buffer, times: number): Promise<void> {
	for (let sent = 0; sent < times && !socket.destroyed && socket.writable; sent++) {
		if (!socket.write(chunk)) {
			await new Promise<void>((resolve) => {
				socket.once("drain", resolve);
				socket.once("close", () => resolve());
			});
		}
	}
}

describe.each([
	["fast lane", true],
	["Connect lane", false],
])("hostile input (%s)", (_, fastLane) => {
	let echo: EchoServer;

	beforeEach(async () => {
		echo = await startEcho({
			fastLane,
			limits: {
				http1HeadersMs: 300,
				http1CheckMs: 50,
				lingerMs: 200,
			},
		});
	});

	// Whatever happened: the server answers somebody else, and keeps nothing of it.
	afterEach(async () => {
		const outcome = await rawCall(echo.port, { path: `${SERVICE}/Unary`, body: [hello] });
		expect(outcome.grpcStatus).toBe("0");
		expect(outcome.messages).toHaveLength(1);
		await until(() => echo.server.openSessions === 0 && echo.server.openStreams === 0 && echo.server.openCalls === 0);
		await until(() => echo.server.openConnections === 0);
		await echo[Symbol.asyncDispose]();
	});

	it.each(["[", "x:99999", "a b", "\u007f", "http://[::"])("an :authority of %j", async (authority) => {
		const session = http2.connect(echo.url);
		session.on("error", () => {});
		for (const contentType of ["application/grpc", "application/json", "application/grpc-web+proto"]) {
			await rawCallOn(session, {
				path: `${SERVICE}/Unary`,
				headers: { ":authority": authority, "content-type": contentType },
				body: [hello],
			});
		}
		session.destroy();
	});

	it.each(["[", "x:99999", "", "a b"])("an HTTP/1.1 Host of %j", async (host) => {
		const { socket, received, closed } = rawSocket(echo.port);
		const head = `POST ${SERVICE}/Unary HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\nContent-Type: application/json\r\n`;
		socket.write(`${head}Content-Length: 13\r\n\r\n{"text":"hi"}`);
		await closed;
		expect(received()).toMatch(/^HTTP\/1\.1 (200|400)/);
	});

	it.each([
		"//",
		"*",
		"/%",
		"/../..",
		"http://[",
		`${SERVICE}/Unary?connect=v1&encoding=json&message=%`,
		`/${"a".repeat(8000)}`,
	])("a :path of %.40j", async (path) => {
		for (const contentType of ["application/grpc", "application/json"]) {
			await rawCall(echo.port, { path, headers: { "content-type": contentType }, body: [hello] });
		}
		await rawCall(echo.port, { path, headers: { ":method": "GET" } });
	});

	it("a storm of resets", async () => {
		const session = http2.connect(echo.url);
		session.on("error", () => {});
		const gone = new Promise<void>((resolve) => session.on("close", () => resolve()));
		for (let index = 0; index < 5000 && !session.closed && !session.destroyed; index++) {
			const stream = session.request({
				":method": "POST",
				":path": `${SERVICE}/Bidi`,
				"content-type": "application/grpc",
			});
			stream.on("error", () => {});
			stream.close(index % 2 ? http2.constants.NGHTTP2_CANCEL : http2.constants.NGHTTP2_INTERNAL_ERROR);
			if (index % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
		}
		session.destroy();
		await gone;
	});

	it("declared lengths of four gigabytes on many streams", async () => {
		const session = http2.connect(echo.url);
		session.on("error", () => {});
		const before = process.memoryUsage().rss;
		const calls = Array.from({ length: 300 }, (_, index) =>
			rawCallOn(session, {
				path: `${SERVICE}/${index % 2 ? "Unary" : "Bidi"}`,
				body: [grpcFrame(new Uint8Array(100), 0, 0xffffffff)],
				open: true,
			}),
		);
		for (const outcome of await Promise.all(calls)) expect(outcome.reason).toBe("MESSAGE_TOO_LARGE");
		expect(process.memoryUsage().rss - before).toBeLessThan(128 * MIB);
		session.destroy();
	});

	it("bodies that nobody may send are not read", async () => {
		const session = http2.connect(echo.url);
		session.on("error", () => {});
		const calls = Array.from({ length: 50 }, () =>
			rawCallOn(session, {
				path: `${SERVICE}/Bidi`,
				headers: { authorization: "Bearer nobody" },
				body: [grpcFrame(new Uint8Array(60_000)), grpcFrame(new Uint8Array(60_000))],
				open: true,
			}),
		);
		for (const outcome of await Promise.all(calls)) expect(outcome.grpcStatus).toBe("16");
		expect(echo.trace.taken).toBe(0);
		session.destroy();
	});

	it("a socket that says nothing", async () => {
		await using hub = await startEcho({ fastLane, limits: { firstByteMs: 100 } });
		const { closed } = rawSocket(hub.port);
		await closed;
	});

	it.each(["P", "PR", "\u0016"])("a socket that says %j and no more", async (text) => {
		await using hub = await startEcho({ fastLane, limits: { firstByteMs: 100 } });
		const { socket, closed } = rawSocket(hub.port);
		socket.write(Buffer.from(text, "latin1"));
		await closed;
	});

	it("HTTP/1.1 headers one byte at a time", async () => {
		const { socket, received, closed } = rawSocket(echo.port);
		socket.write("GET / HT");
		const drip = setInterval(() => socket.write("x"), 20);
		await closed;
		clearInterval(drip);
		expect(received()).toMatch(/^(HTTP\/1\.1 4|$)/);
	});

	it("a session that opens no stream", async () => {
		await using hub = await startEcho({ fastLane, limits: { firstStreamMs: 100 } });
		const { socket, closed } = rawSocket(hub.port);
		socket.write(Buffer.concat([PREFACE, SETTINGS]));
		await closed;
	});

	it("a peer that answers no ping", async () => {
		await using hub = await startEcho({ fastLane, limits: { keepaliveIntervalMs: 100, keepaliveTimeoutMs: 100 } });
		const { socket, closed } = rawSocket(hub.port);
		// A stream is open, so only the ping can tell: `:method POST`, `:scheme http` and three literal fields.
		const path = Buffer.from(`${SERVICE}/Bidi`);
		const type = Buffer.from("application/grpc");
		const block = Buffer.concat([
			Buffer.from([0x83, 0x86, 0x01, 0x01, 0x61, 0x04, path.length]),
			path,
			Buffer.from([0x0f, 0x10, type.length]),
			type,
		]);
		socket.write(Buffer.concat([PREFACE, SETTINGS, h2Frame(1, 0x4, 1, block)]));
		await until(() => hub.server.openCalls === 1);
		await closed;
	});

	it("a preface that breaks off into noise", async () => {
		const { socket, closed } = rawSocket(echo.port);
		socket.write("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n");
		await closed;
	});

	it.each([
		["SETTINGS", SETTINGS],
		["PING", h2Frame(6, 0, 0, Buffer.alloc(8))],
		["PRIORITY", h2Frame(2, 0, 1, Buffer.alloc(5))],
		["RST_STREAM of idle streams", h2Frame(3, 0, 1, Buffer.alloc(4))],
		["unknown frames", h2Frame(0xbb, 0, 0, Buffer.alloc(64))],
		["empty DATA", h2Frame(0, 0, 1)],
	])("a flood of %s", async (_, frame) => {
		const { socket } = rawSocket(echo.port);
		socket.write(Buffer.concat([PREFACE, SETTINGS]));
		const before = process.memoryUsage().rss;
		await flood(socket, Buffer.concat(Array.from({ length: 100 }, () => frame)), 500);
		socket.destroy();
		expect(process.memoryUsage().rss - before).toBeLessThan(128 * MIB);
	});

	it("a header block without an end", async () => {
		const { socket, closed } = rawSocket(echo.port);
		socket.write(Buffer.concat([PREFACE, SETTINGS, h2Frame(1, 0, 1, Buffer.from([0x83]))]));
		// A literal field `a: a`, over and over, in CONTINUATION frames.
		const block = Buffer.concat(Array.from({ length: 2000 }, () => Buffer.from([0x00, 0x01, 0x61, 0x01, 0x61])));
		await flood(socket, h2Frame(9, 0, 1, block), 2000);
		await closed;
	});

	it("too many and too large headers", async () => {
		const many = Object.fromEntries(Array.from({ length: 500 }, (_, index) => [`x-${index}`, "v"]));
		await rawCall(echo.port, { path: `${SERVICE}/Unary`, headers: many, body: [hello] });
		await rawCall(echo.port, { path: `${SERVICE}/Unary`, headers: { "x-large": "v".repeat(60_000) }, body: [hello] });
		const { socket, received, closed } = rawSocket(echo.port);
		socket.write(`GET / HTTP/1.1\r\nHost: a\r\nX: ${"v".repeat(100_000)}\r\n\r\n`);
		await closed;
		expect(received()).toMatch(/^(HTTP\/1\.1 4|$)/);
	});

	it("thousands of streams at once", async () => {
		const session = http2.connect(echo.url);
		session.on("error", () => {});
		const before = process.memoryUsage().rss;
		const calls = Array.from({ length: 3000 }, () => rawCallOn(session, { path: `${SERVICE}/Unary`, body: [hello] }));
		const outcomes = await Promise.all(calls);
		expect(outcomes.filter(({ grpcStatus }) => grpcStatus === "0").length).toBeGreaterThanOrEqual(100);
		expect(process.memoryUsage().rss - before).toBeLessThan(256 * MIB);
		session.destroy();
	});

	it("a peer that never takes its answer", async () => {
		const session = http2.connect(echo.url, { settings: { initialWindowSize: 0 } });
		session.on("error", () => {});
		await new Promise((resolve) => session.once("remoteSettings", resolve));
		const released = echo.trace.released;
		const request = toBinary(
			EchoRequestSchema,
			create(EchoRequestSchema, { text: "x", data: new Uint8Array(60_000), count: 1_000_000 }),
		);
		const stalled = rawCallOn(session, {
			path: `${SERVICE}/Server`,
			headers: { "grpc-timeout": "300m" },
			body: [grpcFrame(request)],
		});
		await stalled;
		await until(() => echo.trace.released === released + 1);
		session.destroy();
	});

	it("requests that the handler does not take", async () => {
		const session = http2.connect(echo.url);
		session.on("error", () => {});
		const stream = session.request({
			":method": "POST",
			":path": `${SERVICE}/Bidi`,
			"content-type": "application/grpc",
		});
		stream.on("error", () => {});
		const wait = toBinary(EchoRequestSchema, create(EchoRequestSchema, { text: "wait" }));
		stream.write(grpcFrame(wait));
		await until(() => echo.trace.waiting === 1);
		let taken = 0;
		const large = grpcFrame(toBinary(EchoRequestSchema, create(EchoRequestSchema, { data: new Uint8Array(60_000) })));
		const write = (): void => {
			stream.write(large, (error) => {
				if (error) return;
				taken += large.byteLength;
				write();
			});
		};
		write();
		// The peer is held back when the windows and what the hub queues are full, and stays held back.
		let before = -1;
		while (before !== taken || taken === 0) {
			before = taken;
			await new Promise((resolve) => setTimeout(resolve, 100));
		}
		expect(taken).toBeLessThan(4 * MIB);
		expect(echo.trace.taken).toBe(1);
		session.destroy();
		await until(() => echo.trace.aborted.length === 1);
	});

	it("a few compressed bytes that become very many", async () => {
		const bomb = gzipSync(toBinary(EchoRequestSchema, create(EchoRequestSchema, { data: new Uint8Array(64 * MIB) })));
		expect(bomb.byteLength).toBeLessThan(80_000);
		const before = process.memoryUsage().rss;
		for (const bytes of [bomb, bomb.subarray(0, 60_000), Buffer.from("no gzip")]) {
			const outcome = await rawCall(echo.port, {
				path: `${SERVICE}/Unary`,
				headers: { "grpc-encoding": "gzip" },
				body: [grpcFrame(bytes, 1)],
			});
			expect(outcome.reason).toBe(bytes.byteLength > 100 ? "MESSAGE_TOO_LARGE" : "MALFORMED_REQUEST");
		}
		expect(process.memoryUsage().rss - before).toBeLessThan(128 * MIB);
	});

	it("JSON of every wrong shape", async () => {
		const deep = `${'{"values":'.repeat(5000)}1${"}".repeat(5000)}`;
		for (const [body, code] of [
			["{", "invalid_argument"],
			['{"nope":1}', "invalid_argument"],
			['{"__proto__":{"text":"x"}}', "invalid_argument"],
			['{"text":{}}', "invalid_argument"],
			[deep, "invalid_argument"],
			[`{"text":"${"x".repeat(100_000)}"}`, "resource_exhausted"],
		] as const) {
			const response = await fetch(`${echo.url}${SERVICE}/Unary`, {
				method: "POST",
				headers: { "content-type": "application/json", connection: "close" },
				body,
			});
			const error = (await response.json()) as { code: string; details: { type: string; debug: { reason: string } }[] };
			expect(error.code).toBe(code);
			expect(error.details.map(({ type }) => type)).toEqual(["google.rpc.ErrorInfo", "google.rpc.RequestInfo"]);
		}
	});
});
