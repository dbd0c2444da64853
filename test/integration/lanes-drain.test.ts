import http2 from "node:http2";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { describe, expect, it } from "vitest";
import { ErrorInfoSchema } from "#gen/google/rpc/error_details_pb.js";
import { startEcho } from "../harness/echo-server.ts";
import { EchoService } from "../harness/gen/echo_pb.js";
import { until } from "../harness/raw-grpc.ts";

describe.each([
	["fast lane", true],
	["Connect lane", false],
])("a graceful stop (%s)", (_, fastLane) => {
	it.each([
		["HTTP/2", (baseUrl: string) => createGrpcTransport({ baseUrl })],
		["HTTP/1.1", (baseUrl: string) => createConnectTransport({ baseUrl, httpVersion: "1.1" })],
	])("tells every call on %s, and ends when they have", async (_, transport) => {
		const echo = await startEcho({ fastLane });
		const client: Client<typeof EchoService> = createClient(EchoService, transport(echo.url));
		const calls = Array.from({ length: 20 }, async (_, index) => {
			if (index % 2) return client.unary({ text: "wait" });
			for await (const _ of client.server({ text: "wait", count: 2 })) void _;
		});
		const outcomes = Promise.allSettled(calls);
		await until(() => echo.trace.waiting === 20);
		await echo.server.drain(5000);
		for (const outcome of await outcomes) {
			expect(outcome.status).toBe("rejected");
			const error = ConnectError.from((outcome as PromiseRejectedResult).reason);
			expect(error.code).toBe(Code.Unavailable);
			expect(error.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "HUB_DRAINING" }]);
		}
		expect(new Set(echo.trace.aborted)).toEqual(new Set(["HUB_DRAINING"]));
		expect([echo.server.openCalls, echo.server.openStreams, echo.server.openConnections]).toEqual([0, 0, 0]);
		await expect(client.unary({})).rejects.toThrow();
	});

	it("destroys what is left at the deadline", async () => {
		const echo = await startEcho({ fastLane });
		const session = http2.connect(echo.url);
		session.on("error", () => {});
		const stream = session.request({
			":method": "POST",
			":path": "/test.echo.v1.EchoService/Bidi",
			"content-type": "application/grpc",
		});
		stream.on("error", () => {});
		await until(() => echo.server.openCalls === 1);
		// The echo handler waits for requests, not for its signal.
		await echo.server.drain(50);
		await until(() => session.destroyed);
		await until(() => echo.server.openCalls === 0);
		expect(echo.server.openConnections).toBe(0);
	});

	it("may be asked for twice, and before it began", async () => {
		const echo = await startEcho({ fastLane });
		await Promise.all([echo.server.drain(1000), echo.server.drain(1000)]);
		await echo[Symbol.asyncDispose]();
	});
});
