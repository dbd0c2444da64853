import { createServer as createHttp1Server } from "node:http";
import { createServer, type ServerHttp2Session } from "node:http2";
import type { AddressInfo } from "node:net";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { build } from "esbuild";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { ErrorInfoSchema } from "#gen/google/rpc/error_details_pb.js";
import { EventService } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { HubService } from "#gen/qirvo/hub/v1/hub_service_pb.js";
import { MessagingService } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import {
	connect,
	createGrpcJsTransport,
	createLeanTransport,
	createNodeTransport,
	toClientError,
} from "../../src/client/index.ts";
import { connect as connectWeb, createWebTransport } from "../../src/client/web.ts";
import { hubError } from "../harness/hub-error.ts";
import { FakeHub } from "./client-fake-hub.ts";
import { quiet } from "./client-opener.ts";

/** A server whose sessions a test can break. */
async function serve(hub: FakeHub, http1 = false) {
	const sessions = new Set<ServerHttp2Session>();
	const handler = connectNodeAdapter({ routes: hub.routes });
	const server = http1 ? createHttp1Server(handler) : createServer(handler);
	server.on("session", (session: ServerHttp2Session) => {
		sessions.add(session);
		session.once("close", () => sessions.delete(session));
	});
	await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
	const breakAll = () => {
		for (const session of sessions) session.destroy();
	};
	onTestFinished(async () => {
		breakAll();
		if ("closeAllConnections" in server) server.closeAllConnections();
		await new Promise((resolve) => server.close(resolve));
	});
	return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, breakAll, sessions };
}

type ClosableTransport = Transport & { close(): void };
const TRANSPORTS: [string, (url: string) => ClosableTransport][] = [
	["lean", (url) => createLeanTransport({ url })],
	["connect-node", (url) => createNodeTransport({ url })],
	["grpc-js", (url) => createGrpcJsTransport({ url })],
];

describe.each(TRANSPORTS)("the %s transport", (_, create) => {
	async function open(hub = new FakeHub()) {
		const server = await serve(hub);
		const transport = create(server.url);
		onTestFinished(() => transport.close());
		return { hub, server, transport };
	}

	it("carries unary calls with metadata both ways", async () => {
		const { hub, transport } = await open();
		const client = createClient(HubService, transport);
		let header: Headers | undefined;
		const info = await client.getHubInfo({}, { headers: { Authorization: "Bearer x" }, onHeader: (h) => (header = h) });
		expect(info.version).toBe("0.0.0");
		expect(hub.tokens).toEqual(["Bearer x"]);
		expect(header?.get("content-type")).toMatch(/^application\/grpc/);
	});

	it("carries the code, message and details of an error", async () => {
		const { hub, transport } = await open();
		hub.faults.refuse.set("Emit", { code: Code.PermissionDenied, reason: "SPOOFED_SOURCE", times: 1 });
		hub.faults.refuse.set("Subscribe", { code: Code.OutOfRange, reason: "POSITION_TRIMMED", times: 1 });
		const client = createClient(EventService, transport);
		const error = await client.emit({ event: { type: "a" } }).catch((thrown) => thrown);
		expect(error).toBeInstanceOf(ConnectError);
		expect(error.findDetails(ErrorInfoSchema)[0]?.domain).toBe("hub.qirvo");
		expect(toClientError(error)).toMatchObject({
			code: Code.PermissionDenied,
			reason: "SPOOFED_SOURCE",
			message: "spoofed_source",
		});
		const stream = client.subscribe({ patterns: ["a"] })[Symbol.asyncIterator]();
		const failed = await stream.next().catch((thrown) => toClientError(thrown));
		expect(failed).toMatchObject({ code: Code.OutOfRange, reason: "POSITION_TRIMMED" });
	});

	it("streams both ways, with large and many messages", async () => {
		const { hub, transport } = await open();
		const client = createClient(EventService, transport);
		const big = "x".repeat(900_000);
		const body = (value: string) => ({ body: { case: "json" as const, value: JSON.stringify(value) } });
		async function* batches() {
			for (let batchId = 1n; batchId <= 30n; batchId++) {
				yield { batchId, events: [{ id: `e${batchId}`, type: "a", payload: body(batchId % 5n === 0n ? big : "y") }] };
			}
		}
		const acknowledged: bigint[] = [];
		for await (const { frame } of client.emitStream(batches())) {
			if (frame.case === "acknowledgement") acknowledged.push(frame.value.batchId);
			if (acknowledged.length === 30) break;
		}
		expect(acknowledged).toEqual(Array.from({ length: 30 }, (_, n) => BigInt(n + 1)));
		const sizes: number[] = [];
		const replay = client.subscribe({
			patterns: ["a"],
			start: { from: { case: "everything", value: true } },
			live: false,
		});
		for await (const { frame } of replay) {
			if (frame.case === "batch")
				for (const event of frame.value.events) sizes.push(event.payload?.body.value?.length ?? 0);
		}
		expect(sizes).toEqual(hub.log.map(({ event }) => event.payload?.body.value?.length));
	});

	it("keeps deadlines, and tells the server of a cancelled call", async () => {
		const { hub, transport } = await open();
		const client = createClient(MessagingService, transport);
		const abort = new AbortController();
		const frames = client.receive({}, { signal: abort.signal })[Symbol.asyncIterator]();
		expect((await frames.next()).value?.frame.case).toBe("ready");
		expect(hub.openStreams).toBe(1);
		abort.abort();
		await expect(frames.next()).rejects.toMatchObject({ code: Code.Canceled });
		await vi.waitFor(() => expect(hub.openStreams).toBe(0));
		const late = client.receive({}, { timeoutMs: 60 })[Symbol.asyncIterator]();
		const ended = await (async () => {
			while (!(await late.next()).done);
		})().catch((thrown) => thrown);
		expect(ended.code).toBe(Code.DeadlineExceeded);
		await vi.waitFor(() => expect(hub.openStreams).toBe(0));
	});

	it("says UNAVAILABLE or the like when nobody is there, and connects again", async () => {
		const { server, transport } = await open();
		const client = createClient(HubService, transport);
		await client.getHubInfo({});
		const stream = createClient(MessagingService, transport).receive({})[Symbol.asyncIterator]();
		await stream.next();
		server.breakAll();
		const broken = await stream.next().catch((thrown) => toClientError(thrown, new AbortController().signal));
		expect(broken).toMatchObject({ reason: "CONNECTION_LOST" });
		await vi.waitFor(async () => expect((await client.getHubInfo({})).version).toBe("0.0.0"));
		const nobody = create("http://127.0.0.1:1");
		onTestFinished(() => nobody.close());
		const refused = await createClient(HubService, nobody).getHubInfo({}, { timeoutMs: 2_000 }).catch(toClientError);
		expect(refused).toMatchObject({ isTransient: true });
	});

	it("carries the whole client", async () => {
		const { url } = await serve(new FakeHub());
		const transport = create(url);
		onTestFinished(() => transport.close());
		await using ada = await connect({ url, token: "ada", transport, logger: quiet, manifest: { id: "ada" } });
		await using bob = await connect({ url, token: "bob", transport, logger: quiet });
		const seen: number[] = [];
		await ada.events.on("n.*", (event) => void seen.push(event.data));
		await bob.messages.handle("double", (request) => request.data * 2).ready;
		await Promise.all(Array.from({ length: 200 }, (_, n) => bob.events.emit("n.x", n)));
		await vi.waitFor(() => expect(seen).toEqual(Array.from({ length: 200 }, (_, n) => n)));
		expect((await ada.messages.request("bob", "double", 21)).data).toBe(42);
	});
});

describe("the default transport", () => {
	it("comes back after its connection was broken, without losing or repeating events", async () => {
		const hub = new FakeHub();
		const server = await serve(hub);
		await using client = await connect({ url: server.url, token: "me", logger: quiet, random: () => 0.1 });
		const seen: number[] = [];
		await client.events.on("n", (event) => void seen.push(event.data));
		const emitted: Promise<unknown>[] = [];
		for (let n = 0; n < 300; n++) {
			emitted.push(client.events.emit("n", n));
			if (n % 100 === 50) {
				await emitted[n - 10];
				server.breakAll();
			}
		}
		await Promise.all(emitted);
		await vi.waitFor(() => expect(seen).toHaveLength(300), { timeout: 5_000 });
		expect(seen).toEqual(Array.from({ length: 300 }, (_, n) => n));
		expect(hub.calls.filter((call) => call === "GetHubInfo").length).toBeGreaterThan(1);
	});

	it("leaves no connection behind", async () => {
		const server = await serve(new FakeHub());
		const client = await connect({ url: server.url, logger: quiet });
		await client.events.on("n", () => {});
		expect(server.sessions.size).toBe(1);
		await client.close();
		await vi.waitFor(() => expect(server.sessions.size).toBe(0));
	});

	it("refuses a message over its bound", async () => {
		const server = await serve(new FakeHub());
		const transport = createLeanTransport({ url: server.url, maxMessageBytes: 4 });
		onTestFinished(() => transport.close());
		const failed = await createClient(HubService, transport)
			.getHubInfo({})
			.catch((thrown) => thrown);
		expect(failed.code).toBe(Code.ResourceExhausted);
		expect(hubError("NO_ROUTE", Code.NotFound).code).toBe(Code.NotFound);
	});
});

describe("the browser's client", () => {
	it("emits, subscribes, requests and answers over fetch and HTTP/1.1", async () => {
		const hub = new FakeHub();
		const { url } = await serve(hub, true);
		await using ada = await connectWeb({ url, token: "ada", logger: quiet, manifest: { id: "ada" } });
		await using bob = await connectWeb({ url, token: "bob", logger: quiet, transport: createWebTransport({ url }) });
		const seen: number[] = [];
		await ada.events.on("n.*", (event) => void seen.push(event.data));
		await bob.messages.handle("double", (request) => request.data * 2).ready;
		for (let n = 0; n < 20; n++) await bob.events.emit("n.x", n);
		await vi.waitFor(() => expect(seen).toEqual(Array.from({ length: 20 }, (_, n) => n)));
		expect((await ada.messages.request("bob", "double", 21)).data).toBe(42);
		await ada.messages.send("bob", "double", 1);
		await vi.waitFor(() => expect(hub.settlements).toHaveLength(1));
		expect(new Set(hub.calls)).not.toContain("EmitStream");
		expect(new Set(hub.calls)).not.toContain("Attach");
	});

	it("bundles without anything of Node's", async () => {
		const { outputFiles, metafile } = await build({
			entryPoints: ["src/client/web.ts"],
			bundle: true,
			minify: true,
			write: false,
			metafile: true,
			platform: "browser",
			format: "esm",
			logLevel: "silent",
		});
		const inputs = Object.keys(metafile.inputs).join("\n");
		expect(inputs).not.toMatch(/connect-node|grpc-js|node:/);
		expect(inputs).not.toMatch(/src\/(rpc|server|state|security|events|messaging|plugins)\//);
		expect(outputFiles[0]?.contents.byteLength).toBeLessThan(300_000);
	});
});
