import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import {
	compressionGzip,
	createConnectTransport,
	createGrpcTransport,
	createGrpcWebTransport,
} from "@connectrpc/connect-node";
import * as grpc from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ErrorInfoSchema } from "#gen/google/rpc/error_details_pb.js";
import { type EchoServer, startEcho } from "../harness/echo-server.ts";
import {
	type EchoRequest,
	EchoRequestSchema,
	type EchoResponse,
	EchoResponseSchema,
	EchoService,
} from "../harness/gen/echo_pb.js";
import { until } from "../harness/raw-grpc.ts";

async function texts(responses: AsyncIterable<EchoResponse>): Promise<string[]> {
	const all: string[] = [];
	for await (const { text } of responses) all.push(text);
	return all;
}

async function* requests(...all: string[]) {
	for (const text of all) yield { text };
}

const TRANSPORTS: readonly [name: string, bidi: boolean, make: (baseUrl: string) => Transport][] = [
	["gRPC", true, (baseUrl) => createGrpcTransport({ baseUrl })],
	[
		"gRPC with gzip",
		true,
		(baseUrl) =>
			createGrpcTransport({ baseUrl, sendCompression: compressionGzip, acceptCompression: [compressionGzip] }),
	],
	["gRPC-Web on HTTP/2", true, (baseUrl) => createGrpcWebTransport({ baseUrl, httpVersion: "2" })],
	["gRPC-Web on HTTP/1.1", false, (baseUrl) => createGrpcWebTransport({ baseUrl, httpVersion: "1.1" })],
	["Connect on HTTP/2", true, (baseUrl) => createConnectTransport({ baseUrl, httpVersion: "2" })],
	["Connect on HTTP/1.1", false, (baseUrl) => createConnectTransport({ baseUrl, httpVersion: "1.1" })],
	[
		"Connect JSON on HTTP/1.1",
		false,
		(baseUrl) => createConnectTransport({ baseUrl, httpVersion: "1.1", useBinaryFormat: false }),
	],
];

describe.each([
	["fast lane", true],
	["Connect lane", false],
])("real clients (%s)", (_, fastLane) => {
	let echo: EchoServer;

	beforeAll(async () => {
		echo = await startEcho({ fastLane });
	});

	afterAll(async () => {
		await echo[Symbol.asyncDispose]();
		expect([echo.server.openCalls, echo.server.openStreams, echo.server.openConnections]).toEqual([0, 0, 0]);
	});

	describe.each(TRANSPORTS)("%s", (_, bidi, make) => {
		let client: Client<typeof EchoService>;

		beforeAll(() => {
			client = createClient(EchoService, make(echo.url));
		});

		it("calls", async () => {
			const data = Uint8Array.from({ length: 40_000 }, (_, index) => index % 251);
			const response = await client.unary({ text: "grüße", data });
			expect(response.text).toBe("grüße");
			expect(Buffer.from(response.data).equals(data)).toBe(true);
			const raw = await client.rawUnary({ text: "raw" }, { headers: { authorization: "Bearer plugin-a" } });
			expect(raw.text).toBe("raw");
		});

		it("streams", async () => {
			expect(await texts(client.server({ text: "s", count: 300 }))).toHaveLength(300);
			if (!bidi) return;
			expect(await texts(client.bidi(requests("a", "b", "c")))).toEqual(["a", "b", "c"]);
			expect(await texts(client.rawBidi(requests("a", "b")))).toEqual(["a", "b"]);
		});

		it("fails with a reason", async () => {
			for (const call of [
				() => client.unary({ text: "fail" }),
				() => texts(client.server({ text: "fail", count: 1 })),
			]) {
				const error = await call().then(
					() => undefined,
					(reason: unknown) => ConnectError.from(reason),
				);
				expect(error?.code).toBe(Code.NotFound);
				expect(error?.rawMessage).toBe("no plugin “wetter” 100%");
				expect(error?.findDetails(ErrorInfoSchema)).toMatchObject([
					{ reason: "PLUGIN_NOT_FOUND", domain: "hub.qirvo", metadata: { plugin: "wetter" } },
				]);
			}
			const large = await client.unary({ data: new Uint8Array(70_000) }).catch((reason) => ConnectError.from(reason));
			expect(large).toMatchObject({ code: Code.ResourceExhausted });
			expect((large as ConnectError).findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "MESSAGE_TOO_LARGE" }]);
		});

		it("tells the handler of a deadline and of a caller who leaves", async () => {
			echo.trace.aborted.length = 0;
			echo.trace.waiting = 0;
			await expect(client.unary({ text: "wait" }, { timeoutMs: 30 })).rejects.toMatchObject({
				code: Code.DeadlineExceeded,
			});
			// The client may reset the stream before the server's own timer fires.
			await until(() => echo.trace.aborted.length === 1);
			const leave = new AbortController();
			const call = client.unary({ text: "wait" }, { signal: leave.signal });
			const ended = expect(call).rejects.toMatchObject({ code: Code.Canceled });
			await until(() => echo.trace.waiting === 2);
			leave.abort();
			await ended;
			await until(() => echo.trace.aborted.length === 2);
			expect(echo.trace.aborted[1]).toBe("CANCELLED");
			await until(() => echo.server.openCalls === 0);
		});
	});

	describe("grpc-js", () => {
		let client: grpc.Client;
		const encode = (request: EchoRequest) => Buffer.from(toBinary(EchoRequestSchema, request));
		const decode = (bytes: Buffer) => fromBinary(EchoResponseSchema, bytes);
		const path = (method: string) => `/test.echo.v1.EchoService/${method}`;
		const request = (text: string, count = 0) => create(EchoRequestSchema, { text, count });

		beforeAll(() => {
			client = new grpc.Client(`127.0.0.1:${echo.port}`, grpc.credentials.createInsecure());
		});
		afterAll(() => client.close());

		it("calls", async () => {
			const response = await new Promise<EchoResponse | undefined>((resolve, reject) => {
				client.makeUnaryRequest(path("Unary"), encode, decode, request("js"), (error, value) =>
					error ? reject(error) : resolve(value),
				);
			});
			expect(response?.text).toBe("js");
		});

		it("streams", async () => {
			const down = client.makeServerStreamRequest(path("Server"), encode, decode, request("s", 20));
			expect(await texts(down)).toHaveLength(20);
			const both = client.makeBidiStreamRequest(path("Bidi"), encode, decode);
			both.write(request("1"));
			both.write(request("2"));
			both.end();
			expect(await texts(both)).toEqual(["1", "2"]);
		});

		it("fails with a reason", async () => {
			const error = await new Promise<grpc.ServiceError | null>((resolve) => {
				client.makeUnaryRequest(path("Unary"), encode, decode, request("fail"), resolve);
			});
			expect(error).toMatchObject({ code: grpc.status.NOT_FOUND, details: "no plugin “wetter” 100%" });
			expect(error?.metadata.get("grpc-status-details-bin")).toHaveLength(1);
		});
	});

	it("tells a bidi stream on HTTP/1.1 that it cannot be", async () => {
		const response = await fetch(`${echo.url}/test.echo.v1.EchoService/Bidi`, {
			method: "POST",
			headers: { "content-type": "application/connect+proto" },
			body: new Uint8Array(5),
		});
		expect(response.status).toBe(505);
		await response.arrayBuffer();
	});

	it("names an unknown method in every protocol", async () => {
		const response = await fetch(`${echo.url}/no.Such/Thing`, {
			method: "POST",
			headers: { "content-type": "application/json" },
			body: "{}",
		});
		expect(response.status).toBe(404);
		expect(await response.json()).toMatchObject({
			code: "unimplemented",
			details: [{ debug: { reason: "METHOD_UNKNOWN" } }],
		});
	});
});
