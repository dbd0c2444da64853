import http2 from "node:http2";
import { create, toBinary } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type EchoServer, startEcho } from "../harness/echo-server.ts";
import { EchoRequestSchema } from "../harness/gen/echo_pb.js";
import { grpcFrame, rawCall, rawCallOn, until } from "../harness/raw-grpc.ts";

const SERVICE = "/test.echo.v1.EchoService";
const KIB = 1024;
const hello = grpcFrame(toBinary(EchoRequestSchema, create(EchoRequestSchema, { text: "hello" })));
const large = grpcFrame(toBinary(EchoRequestSchema, create(EchoRequestSchema, { data: new Uint8Array(60 * KIB) })));

describe.each([
	["fast lane", true],
	["Connect lane", false],
])("requests that are not complete (%s)", (_, fastLane) => {
	let echo: EchoServer;
	beforeEach(async () => {
		echo = await startEcho({ fastLane, limits: { requestBodyMs: 300, requestBytes: 100 * KIB } });
	});
	afterEach(async () => {
		await until(() => echo.server.openCalls === 0);
		await echo[Symbol.asyncDispose]();
	});

	it.each([
		["a unary call without a message", "Unary", []],
		["a unary call that stops in the middle", "Unary", [hello.subarray(0, 7)]],
		["a unary call that does not end", "Unary", [hello]],
		["a server stream that stops in the middle", "Server", [hello.subarray(0, 3)]],
	])("end in time: %s", async (_name, method, body) => {
		const outcome = await rawCall(echo.port, { path: `${SERVICE}/${method}`, body, open: true });
		expect(outcome).toMatchObject({ grpcStatus: "4", reason: "DEADLINE_EXCEEDED" });
	});

	it("end in time: a JSON call", async () => {
		const headers = { "content-type": "application/json" };
		const body = [Buffer.from('{"text":')];
		const outcome = await rawCall(echo.port, { path: `${SERVICE}/Unary`, headers, body, open: true });
		expect(outcome.httpStatus).toBe(504);
	});

	it("may last where requests are a stream, and where a handler takes its time", async () => {
		const session = http2.connect(echo.url);
		const streams = ["Bidi", "Unary"].map((method) => {
			const stream = session.request({
				":method": "POST",
				":path": `${SERVICE}/${method}`,
				"content-type": "application/grpc",
			});
			stream.on("error", () => {});
			return stream;
		});
		streams[0]!.write(hello);
		streams[1]!.end(grpcFrame(toBinary(EchoRequestSchema, create(EchoRequestSchema, { text: "wait" }))));
		const probe = await rawCall(echo.port, { path: `${SERVICE}/Unary`, body: [hello], open: true });
		expect(probe.reason).toBe("DEADLINE_EXCEEDED");
		expect(echo.server.openCalls).toBe(2);
		session.destroy();
	});

	it.each(["Unary", "Bidi"])("hold no more than a principal may (%s)", async (method) => {
		const session = http2.connect(echo.url);
		const path = `${SERVICE}/${method}`;
		const stream = session.request({ ":method": "POST", ":path": path, "content-type": "application/grpc" });
		stream.on("error", () => {});
		stream.write(large.subarray(0, -1));
		const part = { path, body: [large.subarray(0, -1)], open: true };
		const refused = await rawCallOn(session, part);
		expect(refused).toMatchObject({ grpcStatus: "8", reason: "LIMIT_EXCEEDED" });
		const other = await rawCallOn(session, {
			path,
			headers: { authorization: "Bearer plugin-a" },
			body: [large.subarray(0, -1), large.subarray(-1)],
		});
		expect(other.grpcStatus).toBe("0");
		stream.close(http2.constants.NGHTTP2_CANCEL);
		await until(() => echo.server.openCalls === 0);
		const next = await rawCallOn(session, { path, body: [large.subarray(0, -1), large.subarray(-1)] });
		expect(next.grpcStatus).toBe("0");
		session.destroy();
	});
});
