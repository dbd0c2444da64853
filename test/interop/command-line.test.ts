import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createClient } from "@connectrpc/connect";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { EventService } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { MessagingService } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { PluginService } from "#gen/qirvo/hub/v1/plugin_service_pb.js";
import { SecurityAdminService } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import { connect, createGrpcJsTransport, type HubClient } from "../../src/client/index.ts";
import { startHub } from "../../src/server/start-hub.ts";
import { silentLogger } from "../../src/telemetry/logger.ts";
import { manifestOf, TestHub } from "../harness/hub.ts";
import { attachEcho, credentialFor, enrol } from "./echo-plugin.ts";
import { ROOT, runAsync, tool } from "./tools.ts";

let hub: TestHub;
let echo: HubClient;
let folder: string;
const address = () => `127.0.0.1:${hub.running.port}`;

beforeAll(async () => {
	folder = mkdtempSync(join(tmpdir(), "hub-interop-"));
	hub = await TestHub.start();
	echo = await attachEcho(hub);
});

afterAll(async () => {
	await echo[Symbol.asyncDispose]();
	await hub[Symbol.asyncDispose]();
	rmSync(folder, { recursive: true, force: true });
});

/** One call by a command-line tool: method, JSON in, what it printed. */
type Call = (method: string, body: object, token: string) => Promise<string>;

/** Registers, emits, subscribes and requests. */
async function exercise(pluginId: string, call: Call, credential?: string): Promise<void> {
	const token = credential ?? (await credentialFor(hub, pluginId));
	const registered = await call("qirvo.hub.v1.PluginService/Register", { manifestJson: manifestOf(pluginId) }, token);
	expect(registered).toContain(pluginId);
	const subscribed = call(
		"qirvo.hub.v1.EventService/Subscribe",
		{ patterns: [`${pluginId}.*`], limit: 1, start: { everything: true } },
		token,
	);
	const event = { type: `${pluginId}.done`, payload: { json: '{"n":7}' } };
	const emitted = await call("qirvo.hub.v1.EventService/Emit", { event }, token);
	const id = /"id":\s*"([^"]+)"/.exec(emitted)?.[1];
	expect(id).toBeDefined();
	expect(await subscribed).toContain(id);
	const message = { type: "echo", payload: { json: '{"n":7}' } };
	const answer = await call(
		"qirvo.hub.v1.MessagingService/Request",
		{ to: { pluginId: "interop-echo" }, message },
		token,
	);
	expect(answer).toMatch(/"success":\s*true/);
	expect(answer).toContain('{\\"n\\":7}');
}

describe("command-line tools", () => {
	it("grpcurl, in the clear, by reflection", async () => {
		const listed = await runAsync(tool("grpcurl"), ["-plaintext", address(), "list"]);
		for (const service of ["PluginService", "EventService", "MessagingService", "SecurityAdminService", "HubService"]) {
			expect(listed).toContain(`qirvo.hub.v1.${service}`);
		}
		await exercise("interop-grpcurl", (method, body, token) =>
			runAsync(tool("grpcurl"), ["-plaintext", "-H", `authorization: Bearer ${token}`, "-d", "@", address(), method], {
				input: JSON.stringify(body),
			}),
		);
	});

	it("grpcurl shows the reason of an error", async () => {
		const token = await credentialFor(hub, "interop-reason");
		const printed = await runAsync(
			tool("grpcurl"),
			["-plaintext", "-H", `authorization: Bearer ${token}`, "-d", "@", address(), "qirvo.hub.v1.EventService/Emit"],
			{ input: JSON.stringify({ event: { type: "a..b" } }), codes: [67] },
		);
		expect(printed).toContain("INVALID_EVENT_TYPE");
		expect(printed).toContain("event.type");
	});

	it("grpcurl over TLS", async () => {
		const certFile = join(folder, "cert.pem");
		const keyFile = join(folder, "key.pem");
		await runAsync(tool("openssl"), [
			...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"],
			...[
				"-subj",
				"/CN=localhost",
				"-addext",
				"subjectAltName=DNS:localhost,IP:127.0.0.1",
				"-keyout",
				keyFile,
				"-out",
				certFile,
			],
		]);
		await using secure = await startHub({
			logger: silentLogger,
			options: {
				listen: { host: "127.0.0.1", port: 0 },
				state: "memory",
				dataDirectory: join(folder, "secure"),
				tls: { certFile, keyFile },
				drainMs: 500,
			},
		});
		const tls = { ca: readFileSync(certFile) };
		const operatorToken = readFileSync(secure.operatorTokenFile, "utf8").trim();
		await using operator = await connect({ url: secure.url, token: operatorToken, tls });
		const admin = operator.service(SecurityAdminService);
		const echoToken = await enrol(admin, "interop-echo");
		await using secureEcho = await connect({
			url: secure.url,
			token: echoToken,
			tls,
			manifest: manifestOf("interop-echo"),
		});
		await secureEcho.messages.handle("echo", (request) => request.data).ready;

		const target = `127.0.0.1:${secure.port}`;
		await exercise(
			"interop-tls",
			(method, body, token) =>
				runAsync(
					tool("grpcurl"),
					["-cacert", certFile, "-H", `authorization: Bearer ${token}`, "-d", "@", target, method],
					{
						input: JSON.stringify(body),
					},
				),
			await enrol(admin, "interop-tls"),
		);
		await runAsync(tool("grpcurl"), ["-plaintext", "-max-time", "5", target, "grpc.health.v1.Health/Check"], {
			codes: [1],
		});
	});

	it("buf curl", async () => {
		await exercise("interop-buf", (method, body, token) =>
			runAsync(join(ROOT, "node_modules/.bin/buf"), [
				...["curl", "--http2-prior-knowledge", "--protocol", "grpc", "--schema", "proto"],
				...["-H", `authorization: Bearer ${token}`, "-d", JSON.stringify(body), `http://${address()}/${method}`],
			]),
		);
	});

	it("curl with Connect's JSON over HTTP/1.1", async () => {
		const exchange: Call = (method, body, token) => {
			const streaming = method.endsWith("/Subscribe");
			const json = JSON.stringify(body);
			return runAsync(
				tool("curl"),
				[
					...["--silent", "--show-error", "--http1.1", "--max-time", "20", "--output", "-"],
					...["-H", `content-type: application/${streaming ? "connect+json" : "json"}`],
					...["-H", "connect-protocol-version: 1", "-H", `authorization: Bearer ${token}`, "--data-binary", "@-"],
					`http://${address()}/${method}`,
				],
				{ input: streaming ? envelope(json) : json },
			);
		};
		await exercise("interop-curl", exchange);
	});
});

describe("@grpc/grpc-js through the SDK's transport", () => {
	it("registers, emits, subscribes and requests", async () => {
		const token = await credentialFor(hub, "interop-grpc-js");
		const transport = createGrpcJsTransport({ url: hub.url });
		const headers = { authorization: `Bearer ${token}` };
		try {
			const registered = await createClient(PluginService, transport).register(
				{ manifestJson: manifestOf("interop-grpc-js") },
				{ headers },
			);
			expect(registered.plugin?.id).toBe("interop-grpc-js");
			const events = createClient(EventService, transport);
			const frames = events.subscribe({ patterns: ["interop.*"], limit: 1 }, { headers })[Symbol.asyncIterator]();
			expect((await frames.next()).value?.frame.case).toBe("ready");
			const { id } = await events.emit({ event: { type: "interop.js" } }, { headers });
			const received: string[] = [];
			for (let next = await frames.next(); !next.done; next = await frames.next()) {
				if (next.value.frame.case === "batch") received.push(...next.value.frame.value.events.map((event) => event.id));
			}
			expect(received).toEqual([id]);
			const { reply } = await createClient(MessagingService, transport).request(
				{
					to: { target: { case: "pluginId", value: "interop-echo" } },
					message: { type: "echo", payload: { body: { case: "json", value: '{"n":7}' } } },
				},
				{ headers },
			);
			expect(reply?.data?.body).toEqual({ case: "json", value: '{"n":7}' });
		} finally {
			transport.close();
		}
	});
});

describe("the SDK", () => {
	it("connects without a manifest for an operator", async () => {
		await using client = await connect({ url: hub.url, token: hub.operator.token });
		const listed: string[] = [];
		for await (const event of client.events.list("**")) listed.push(event.type);
		expect(listed).toContain("plugin:registered");
	});
});

/** A message of Connect's streaming protocol: a flag byte, the length, the text. ASCII only. */
function envelope(json: string): string {
	const head = Buffer.alloc(5);
	head.writeUInt32BE(Buffer.byteLength(json), 1);
	return head.toString("latin1") + json;
}
