import { create, toBinary } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import { EmitRequestSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { EMIT, eventWith } from "../harness/bad-call.ts";
import { BAD_CALLS as CASES } from "../harness/bad-calls.ts";
import { postJson } from "../harness/connect-json.ts";
import { failureOf } from "../harness/failure.ts";
import { describeHubs } from "../harness/hub.ts";
import { grpcFrame, rawCall } from "../harness/raw-grpc.ts";

describeHubs("bad input", (start) => {
	it("gives the code, the reason and the field, and the hub goes on", async () => {
		await using hub = await start();
		const plugin = await hub.enrol("plugin");
		const world = { hub, plugin };
		const problems: unknown[] = [];
		for (const { name, call, code, reason, field: path } of CASES) {
			const failure = await call(world).catch((error: unknown) => ({
				code: String(error),
				reason: "",
				fields: [],
				metadata: {} as Record<string, string>,
			}));
			const right =
				failure.code === code &&
				failure.reason === reason &&
				(path === undefined || (failure.fields[0] === path && failure.metadata.field === path));
			if (!right) problems.push({ name, wanted: { code, reason, path }, failure });
		}
		expect(problems).toEqual([]);
		// Nothing of it was taken, and the hub answers.
		const { events } = await plugin.events.listEvents({ patterns: ["**"], source: "plugin" });
		expect(events).toEqual([]);
		expect((await plugin.events.emit({ event: { type: "a.b" } })).duplicate).toBe(false);
	});

	it("of a kind that only wants to be told apart is carried as it is", async () => {
		await using hub = await start();
		const plugin = await hub.enrol("plugin");
		// Keys that mean something to JavaScript mean nothing to the hub.
		const keys = ["constructor", "toString", "hasOwnProperty", "prototype"];
		const attributes = Object.fromEntries(keys.map((key) => [key, key]));
		await plugin.events.emit({ event: { type: "a.b", attributes } });
		await postJson(hub.url, EMIT, plugin.token, JSON.stringify({ event: { type: "a.b", attributes } }));
		const entry = Buffer.concat([Buffer.from([0x0a, 9]), Buffer.from("__proto__"), Buffer.from([0x12, 1, 0x78])]);
		const headers = { authorization: `Bearer ${plugin.token}` };
		const outcome = await rawCall(hub.running.port, { path: EMIT, headers, body: [grpcFrame(eventWith(5, entry))] });
		expect(["0", "3"]).toContain(outcome.grpcStatus);
		const { events } = await plugin.events.listEvents({ patterns: ["a.b"], pageSize: 2 });
		expect(events.map((event) => event.attributes)).toEqual([attributes, attributes]);
		expect(({} as Record<string, unknown>).x).toBeUndefined();
		for (const id of ["constructor", "__proto__", "tostring"]) {
			const failure = await failureOf(plugin.plugins.get({ pluginId: id }));
			expect(failure.reason).toBe(id === "__proto__" ? "INVALID_PLUGIN_ID" : "PLUGIN_NOT_FOUND");
		}
	});

	it("in the head of a request hurts nobody", async () => {
		await using hub = await start();
		const plugin = await hub.enrol("plugin");
		const body = [grpcFrame(toBinary(EmitRequestSchema, create(EmitRequestSchema, { event: { type: "a.b" } })))];
		const headers = { authorization: `Bearer ${plugin.token}` };
		for (const odd of [
			...["[", "x:99999", "a b"].map((authority) => ({ ":authority": authority })),
			...["soon", "-1S", "99999999999S"].map((timeout) => ({ "grpc-timeout": timeout })),
			{ authorization: `Bearer ${"x".repeat(10_000)}` },
			{ authorization: "Bearer" },
			{ "x-request-id": "../../etc" },
			{ traceparent: "nonsense" },
			{ "grpc-encoding": "snappy" },
		]) {
			const outcome = await rawCall(hub.running.port, { path: EMIT, headers: { ...headers, ...odd }, body });
			expect(["0", "3", "12", "16", undefined], JSON.stringify(odd).slice(0, 50)).toContain(outcome.grpcStatus);
			if (outcome.grpcStatus !== undefined && outcome.grpcStatus !== "0") {
				expect(outcome.details.filter((type) => type === "google.rpc.ErrorInfo")).toHaveLength(1);
			}
			await plugin.events.emit({ event: { type: "a.b" } });
		}
	});
});
