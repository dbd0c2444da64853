import http2 from "node:http2";
import { fromBinary } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type EchoServer, startEcho } from "../harness/echo-server.ts";
import { EchoResponseSchema } from "../harness/gen/echo_pb.js";
import { bidi, frameOf, server, unary } from "../harness/lane-case.ts";
import { LANE_CASES as CASES } from "../harness/lane-cases.ts";
import { type RawOutcome, rawCall, until } from "../harness/raw-grpc.ts";

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
