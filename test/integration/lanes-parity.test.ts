import http2 from "node:http2";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type EchoServer, startEcho } from "../harness/echo-server.ts";
import { EchoRequestSchema, EchoResponseSchema } from "../harness/gen/echo_pb.js";
import { grpcFrame, type RawOutcome, type RawRequest, rawCall, until } from "../harness/raw-grpc.ts";

const SERVICE = "/test.echo.v1.EchoService";
const MAX = 64 * 1024;

const message = (init: { text?: string; data?: Uint8Array; count?: number }) =>
	toBinary(EchoRequestSchema, create(EchoRequestSchema, init));
const frameOf = (init: Parameters<typeof message>[0]) => grpcFrame(message(init));
const slices = (bytes: Buffer, size: number) =>
	Array.from({ length: Math.ceil(bytes.length / size) }, (_, index) =>
		bytes.subarray(index * size, (index + 1) * size),
	);

interface Case extends RawRequest {
	readonly name: string;
	/** What both lanes must say. */
	readonly status: string | undefined;
	readonly reason?: string;
	readonly details?: readonly string[];
	readonly texts?: readonly string[];
}

const unary = `${SERVICE}/Unary`;
const server = `${SERVICE}/Server`;
const bidi = `${SERVICE}/Bidi`;
const info = ["google.rpc.ErrorInfo"];

const CASES: readonly Case[] = [
	{ name: "unary", path: unary, body: [frameOf({ text: "a" })], status: "0", texts: ["a"] },
	{ name: "unary, empty message", path: unary, body: [frameOf({})], status: "0", texts: [""] },
	{
		name: "unary, byte by byte",
		path: unary,
		body: slices(frameOf({ text: "slow" }), 1),
		status: "0",
		texts: ["slow"],
	},
	{
		name: "unary, prefix split",
		path: unary,
		body: slices(frameOf({ text: "split" }), 3),
		status: "0",
		texts: ["split"],
	},
	{
		name: "unary, at the limit",
		path: unary,
		body: [frameOf({ data: new Uint8Array(MAX - 4) })],
		status: "0",
		texts: [""],
	},
	{
		name: "unary, one byte over the limit",
		path: unary,
		body: [frameOf({ data: new Uint8Array(MAX - 3) })],
		status: "8",
		reason: "MESSAGE_TOO_LARGE",
		details: info,
	},
	{
		name: "unary, huge declared length",
		path: unary,
		body: [grpcFrame(new Uint8Array(3), 0, 0xffffffff)],
		status: "8",
		reason: "MESSAGE_TOO_LARGE",
		details: info,
	},
	{
		name: "unary, huge declared length on an open stream",
		path: unary,
		body: [grpcFrame(new Uint8Array(3), 0, 0xffffffff)],
		open: true,
		status: "8",
		reason: "MESSAGE_TOO_LARGE",
		details: info,
	},
	{ name: "unary, no message", path: unary, status: "3", reason: "MALFORMED_REQUEST", details: info },
	{
		name: "unary, two messages",
		path: unary,
		body: [frameOf({}), frameOf({})],
		status: "3",
		reason: "MALFORMED_REQUEST",
		details: info,
	},
	{
		name: "unary, cut short in the message",
		path: unary,
		body: [grpcFrame(new Uint8Array(3), 0, 9)],
		status: "3",
		reason: "MALFORMED_REQUEST",
		details: info,
	},
	{
		name: "unary, cut short in the prefix",
		path: unary,
		body: [Buffer.from([0, 0, 0])],
		status: "3",
		reason: "MALFORMED_REQUEST",
		details: info,
	},
	{
		name: "unary, not a message",
		path: unary,
		body: [grpcFrame(Buffer.from([0x0a, 0xff, 0x01]))],
		status: "3",
		reason: "MALFORMED_REQUEST",
		details: info,
	},
	{
		name: "unary, compressed flag without an encoding",
		path: unary,
		body: [grpcFrame(message({}), 1)],
		status: "3",
		reason: "MALFORMED_REQUEST",
		details: info,
	},
	{
		name: "unary, unknown encoding",
		path: unary,
		headers: { "grpc-encoding": "snappy" },
		body: [frameOf({})],
		status: "12",
		reason: "METHOD_UNKNOWN",
		details: info,
	},
	{
		name: "unary, unknown field",
		path: unary,
		body: [grpcFrame(Buffer.concat([message({ text: "new" }), Buffer.from([0xf8, 0x06, 0x01])]))],
		status: "0",
		texts: ["new"],
	},
	{
		name: "failure with a resource and a message that needs escaping",
		path: unary,
		body: [frameOf({ text: "fail" })],
		status: "5",
		reason: "PLUGIN_NOT_FOUND",
		details: [...info, "google.rpc.ResourceInfo"],
	},
	{
		name: "failure of a field",
		path: unary,
		body: [frameOf({ text: "field" })],
		status: "3",
		reason: "INVALID_FIELD",
		details: [...info, "google.rpc.BadRequest"],
	},
	{
		name: "failure with every other detail",
		path: unary,
		body: [frameOf({ text: "rich" })],
		status: "8",
		reason: "RATE_LIMIT_EXCEEDED",
		details: [...info, "google.rpc.RetryInfo", "google.rpc.QuotaFailure", "google.rpc.PreconditionFailure"],
	},
	{
		name: "unexpected failure",
		path: unary,
		headers: { "x-request-id": "req-1" },
		body: [frameOf({ text: "crash" })],
		status: "13",
		reason: "INTERNAL",
		details: info,
	},
	{
		name: "storage failure",
		path: unary,
		body: [frameOf({ text: "storage" })],
		status: "8",
		reason: "STORAGE_FULL",
		details: info,
	},
	{
		name: "late",
		path: unary,
		headers: { "grpc-timeout": "20m" },
		body: [frameOf({ text: "wait" })],
		status: "4",
		reason: "DEADLINE_EXCEEDED",
		details: info,
	},
	{
		name: "late before the request is there",
		path: unary,
		headers: { "grpc-timeout": "20m" },
		open: true,
		status: "4",
		reason: "DEADLINE_EXCEEDED",
		details: info,
	},
	{
		name: "a deadline too far for a timer",
		path: unary,
		headers: { "grpc-timeout": "99999999H" },
		body: [frameOf({ text: "a" })],
		status: "0",
		texts: ["a"],
	},
	{
		name: "a deadline that is none",
		path: unary,
		headers: { "grpc-timeout": "soon" },
		body: [frameOf({ text: "a" })],
		status: "3",
		reason: "MALFORMED_REQUEST",
		details: info,
	},
	{
		name: "server stream",
		path: server,
		body: [frameOf({ text: "s", count: 3 })],
		status: "0",
		texts: ["s", "s", "s"],
	},
	{ name: "server stream, empty", path: server, body: [frameOf({ text: "s" })], status: "0", texts: [] },
	{
		name: "server stream that fails after its messages",
		path: server,
		body: [frameOf({ text: "fail", count: 2 })],
		status: "5",
		reason: "PLUGIN_NOT_FOUND",
		details: [...info, "google.rpc.ResourceInfo"],
		texts: ["fail", "fail"],
	},
	{
		name: "server stream, late",
		path: server,
		headers: { "grpc-timeout": "30m" },
		body: [frameOf({ text: "wait", count: 1 })],
		status: "4",
		reason: "DEADLINE_EXCEEDED",
		details: info,
		texts: ["wait"],
	},
	{ name: "server stream, no message", path: server, status: "3", reason: "MALFORMED_REQUEST", details: info },
	{
		name: "bidi",
		path: bidi,
		body: [frameOf({ text: "1" }), frameOf({ text: "2" })],
		status: "0",
		texts: ["1", "2"],
	},
	{ name: "bidi, no message", path: bidi, status: "0", texts: [] },
	{
		name: "bidi, cut short after a message",
		path: bidi,
		body: [frameOf({ text: "1" }), Buffer.from([0, 0])],
		status: "3",
		reason: "MALFORMED_REQUEST",
		details: info,
	},
	{
		name: "bidi, a message that is too large",
		path: bidi,
		body: [grpcFrame(new Uint8Array(1), 0, MAX + 1)],
		open: true,
		status: "8",
		reason: "MESSAGE_TOO_LARGE",
		details: info,
	},
	{
		name: "bidi, not a message",
		path: bidi,
		body: [grpcFrame(Buffer.from([0x0a, 0xff, 0x01]))],
		open: true,
		status: "3",
		reason: "MALFORMED_REQUEST",
		details: info,
	},
	{
		name: "bidi, the handler fails while requests come",
		path: bidi,
		body: [frameOf({ text: "fail" })],
		open: true,
		status: "5",
		reason: "PLUGIN_NOT_FOUND",
		details: [...info, "google.rpc.ResourceInfo"],
	},
	{
		name: "raw handler, encoded answer",
		path: `${SERVICE}/RawUnary`,
		headers: { authorization: "Bearer plugin-a" },
		body: [frameOf({ text: "raw" })],
		status: "0",
		texts: ["raw"],
	},
	{
		name: "raw handler, encoded frames",
		path: `${SERVICE}/RawBidi`,
		body: [frameOf({ text: "1" }), frameOf({ text: "2" })],
		status: "0",
		texts: ["1", "2"],
	},
	{
		name: "a credential that is verified later",
		path: `${SERVICE}/RawUnary`,
		headers: { authorization: "Bearer slow-a" },
		body: [frameOf({ text: "raw" })],
		status: "0",
		texts: ["raw"],
	},
	{
		name: "a credential that is refused later",
		path: unary,
		headers: { authorization: "Bearer slow-bad" },
		body: [frameOf({})],
		status: "16",
		reason: "CREDENTIAL_REVOKED",
		details: info,
	},
	{
		name: "a bad credential",
		path: unary,
		headers: { authorization: "Bearer nobody" },
		body: [frameOf({})],
		status: "16",
		reason: "CREDENTIAL_INVALID",
		details: info,
	},
	{
		name: "a bad credential on a request that never ends",
		path: bidi,
		headers: { authorization: "Bearer nobody" },
		open: true,
		status: "16",
		reason: "CREDENTIAL_INVALID",
		details: info,
	},
	{
		name: "no credential where one is needed",
		path: `${SERVICE}/RawUnary`,
		body: [frameOf({})],
		status: "16",
		reason: "CREDENTIAL_MISSING",
		details: info,
	},
	{
		name: "an RPC without a row",
		path: `${SERVICE}/Unlisted`,
		headers: { authorization: "Bearer plugin-a" },
		body: [frameOf({})],
		status: "7",
		reason: "CALLER_NOT_ALLOWED",
		details: info,
	},
	{
		name: "an unknown method",
		path: `${SERVICE}/Nothing`,
		body: [frameOf({})],
		status: "12",
		reason: "METHOD_UNKNOWN",
		details: info,
	},
	{
		name: "an unknown service",
		path: "/no.Such/Thing",
		body: [frameOf({})],
		status: "12",
		reason: "METHOD_UNKNOWN",
		details: info,
	},
	{
		name: "application/grpc+proto",
		path: unary,
		headers: { "content-type": "application/grpc+proto" },
		body: [frameOf({ text: "a" })],
		status: "0",
		texts: ["a"],
	},
	{ name: "a content type nobody speaks", path: unary, headers: { "content-type": "text/plain" }, status: undefined },
	{
		name: "no te header",
		path: unary,
		headers: { te: undefined },
		body: [frameOf({ text: "a" })],
		status: "0",
		texts: ["a"],
	},
];

let fast: EchoServer;
let connect: EchoServer;

beforeAll(async () => {
	fast = await startEcho();
	connect = await startEcho({ fastLane: false });
});

afterAll(async () => {
	for (const echo of [fast, connect]) {
		await until(() => echo.server.openStreams === 0 && echo.server.openSessions === 0);
		expect(echo.server.openCalls).toBe(0);
		await echo[Symbol.asyncDispose]();
		expect(echo.server.openConnections).toBe(0);
	}
});

/** What may not differ. An internal failure's message and metadata name the request. */
function comparable(outcome: RawOutcome) {
	return {
		...outcome,
		rstCode: 0,
		requestId: undefined,
		contentType: undefined,
		messages: outcome.messages.map((each) => each.toString("hex")),
	};
}

describe("both lanes say the same", () => {
	it.each(CASES)("$name", async (given) => {
		const [one, other] = await Promise.all([rawCall(fast.port, given), rawCall(connect.port, given)]);
		expect(comparable(one)).toEqual(comparable(other));
		expect(one.grpcStatus).toBe(given.status);
		if (given.status === undefined) {
			expect(one.httpStatus).toBe(415);
			return;
		}
		expect(one.httpStatus).toBe(200);
		expect(one.reason).toBe(given.reason);
		// What reaches no method is no call.
		const isFailedCall = given.status !== "0" && !given.name.startsWith("an unknown ");
		const requestInfo = isFailedCall ? ["google.rpc.RequestInfo"] : [];
		expect(one.details).toEqual([...(given.details ?? []), ...requestInfo]);
		if (given.texts) {
			expect(one.messages.map((bytes) => fromBinary(EchoResponseSchema, bytes).text)).toEqual(given.texts);
		}
	});

	it("keeps an unexpected failure to itself, and gives the request id", async () => {
		for (const echo of [fast, connect]) {
			const outcome = await rawCall(echo.port, {
				path: unary,
				headers: { "x-request-id": "my-id.1" },
				body: [frameOf({ text: "crash" })],
			});
			expect(outcome.grpcMessage).toBe("internal error");
			expect(outcome.metadata).toEqual({ request_id: "my-id.1" });
		}
	});

	it("gives the request id with every failure", async () => {
		for (const echo of [fast, connect]) {
			const headers = { "x-request-id": "my-id.2" };
			const refused = await rawCall(echo.port, { path: unary, headers, body: [frameOf({ text: "storage" })] });
			expect(refused).toMatchObject({ reason: "STORAGE_FULL", requestId: "my-id.2" });
			const unread = await rawCall(echo.port, { path: unary, headers });
			expect(unread).toMatchObject({ reason: "MALFORMED_REQUEST", requestId: "my-id.2" });
		}
	});

	it("makes an id of its own where the caller's is not well formed", async () => {
		for (const echo of [fast, connect]) {
			const outcome = await rawCall(echo.port, {
				path: unary,
				headers: { "x-request-id": "a b\u00e4" },
				body: [frameOf({ text: "crash" })],
			});
			expect(outcome.metadata.request_id).toMatch(/^[0-9a-f]{32}$/);
		}
	});

	it.each([
		["unary", unary],
		["server stream", server],
		["bidi", bidi],
	])("tells a %s handler that the caller went away", async (_, path) => {
		for (const echo of [fast, connect]) {
			echo.trace.aborted.length = 0;
			echo.trace.waiting = 0;
			const session = http2.connect(echo.url);
			const stream = session.request({ ":method": "POST", ":path": path, "content-type": "application/grpc" });
			stream.on("error", () => {});
			stream.write(frameOf({ text: "wait" }));
			if (path !== bidi) stream.end();
			await until(() => echo.trace.waiting === 1);
			const released = echo.trace.released;
			stream.close(http2.constants.NGHTTP2_CANCEL);
			await until(() => echo.trace.aborted.length === 1);
			expect(echo.trace.aborted).toEqual(["CANCELLED"]);
			if (path !== unary) await until(() => echo.trace.released === released + 1);
			session.destroy();
			await until(() => echo.server.openSessions === 0 && echo.server.openCalls === 0);
		}
	});

	it("takes a reset with an error code in the middle of a request", async () => {
		for (const echo of [fast, connect]) {
			for (const path of [unary, server, bidi]) {
				await rawCall(echo.port, { path, body: [frameOf({ text: "x", count: 9 }).subarray(0, 6)], reset: 2 });
			}
			const outcome = await rawCall(echo.port, { path: unary, body: [frameOf({ text: "alive" })] });
			expect(outcome.grpcStatus).toBe("0");
		}
	});

	it("counts every call once, under the lane that answered it", async () => {
		for (const echo of [fast, connect]) {
			await until(() => echo.server.openCalls === 0);
			const { text } = await echo.metrics.expose();
			const lane = echo === fast ? "fast" : "connect";
			expect(text).toMatch(new RegExp(`hub_rpc_calls_total\\{method="${unary}",lane="${lane}",code="OK"\\} \\d+`));
			expect(text).toContain(`hub_rpc_duration_seconds_bucket{method="${unary}",lane="${lane}",le="+Inf"}`);
		}
	});
});
