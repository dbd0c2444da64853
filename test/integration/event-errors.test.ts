import { create, toBinary } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { EmitRequestSchema, EventSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { HubError } from "../../src/hub-error.ts";
import { StorageError } from "../../src/state/kv-store.ts";
import type { LogStore } from "../../src/state/log-store.ts";
import { EventHub, FakeCall, operator, plugin } from "../harness/event-hub.ts";

let hub: EventHub;

beforeEach(async () => {
	hub = await EventHub.open();
});

afterEach(async () => {
	hub.assertNothingLeft();
	await hub[Symbol.asyncDispose]();
});

async function refusal(work: Promise<unknown>): Promise<HubError> {
	const error = await work.then(
		() => undefined,
		(thrown) => thrown,
	);
	expect(error).toBeInstanceOf(HubError);
	return error;
}

const json = (value: string) => ({ body: { case: "json" as const, value } });

describe("an event is refused", () => {
	test.each([
		["without a type", { type: "" }, "INVALID_EVENT_TYPE", "event.type"],
		["with a malformed type", { type: "a b" }, "INVALID_EVENT_TYPE", "event.type"],
		["with a type of 17 tokens", { type: Array(17).fill("a").join(".") }, "INVALID_EVENT_TYPE", "event.type"],
		["with a long id", { type: "a", id: "x".repeat(129) }, "INVALID_FIELD", "event.id"],
		["with a long subject", { type: "a", subject: "é".repeat(257) }, "INVALID_FIELD", "event.subject"],
		["with a long ordering key", { type: "a", orderingKey: "x".repeat(257) }, "INVALID_FIELD", "event.ordering_key"],
		[
			"with a long content type",
			{ type: "a", payload: { contentType: "x".repeat(129) } },
			"INVALID_FIELD",
			"event.payload.content_type",
		],
		[
			"with a long schema",
			{ type: "a", payload: { schema: "x".repeat(513) } },
			"INVALID_FIELD",
			"event.payload.schema",
		],
		[
			"with a reserved attribute",
			{ type: "a", attributes: { "hub-x": "1" } },
			"INVALID_FIELD",
			'event.attributes["hub-x"]',
		],
		["with an empty attribute key", { type: "a", attributes: { "": "1" } }, "INVALID_FIELD", "event.attributes"],
		[
			"with a long attribute key",
			{ type: "a", attributes: { ["k".repeat(129)]: "1" } },
			"INVALID_FIELD",
			"event.attributes",
		],
		["with a long attribute", { type: "a", attributes: { k: "v".repeat(4097) } }, "INVALID_FIELD", "event.attributes"],
		[
			"with 65 attributes",
			{ type: "a", attributes: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`k${i}`, ""])) },
			"INVALID_FIELD",
			"event.attributes",
		],
		["with a hub time", { type: "a", hubTime: { seconds: 1n } }, "INVALID_FIELD", "event.hub_time"],
		["with a sequence", { type: "a", sequence: 1n }, "INVALID_FIELD", "event.sequence"],
		["marked as a replay", { type: "a", isReplay: true }, "INVALID_FIELD", "event.is_replay"],
		["with an impossible time", { type: "a", time: { nanos: 1_000_000_000 } }, "INVALID_FIELD", "event.time"],
		["with a time before year 1", { type: "a", time: { seconds: -62_135_596_801n } }, "INVALID_FIELD", "event.time"],
		["with another's source", { type: "a", source: "other" }, "SPOOFED_SOURCE", "event.source"],
		["with the hub's source", { type: "a", source: "hub" }, "SPOOFED_SOURCE", "event.source"],
		["of a lifecycle type", { type: "plugin:registered" }, "RESERVED_EVENT_TYPE", "event.type"],
		["of a lifecycle type in the other spelling", { type: "plugin.offline" }, "RESERVED_EVENT_TYPE", "event.type"],
		[
			"with more than 1 MiB",
			{ type: "a", payload: json("1".repeat(1024 * 1024 + 1)) },
			"INVALID_CONTENT",
			"event.payload",
		],
	])("%s", async (_, event, reason, field) => {
		const error = await refusal(hub.emit(event as never));
		expect(error).toMatchObject({ reason, metadata: { field } });
		expect(error.options.violations?.[0]?.field).toBe(field);
		expect(hub.log.bounds().next).toBe(1);
	});

	test("and a spoofed source is audited", async () => {
		await refusal(hub.emit({ type: "a", source: "other" }));
		expect(hub.audited).toMatchObject([
			{ event: "event_denied", actor: "plugin:weather", reason: "spoofed_source", requestId: "request-1" },
		]);
	});

	test("where the guard refuses it", async () => {
		hub.guard.deny = () => {
			throw new HubError("INSUFFICIENT_PERMISSIONS", "no grant");
		};
		expect((await refusal(hub.emit({ type: "a" }))).reason).toBe("INSUFFICIENT_PERMISSIONS");
	});

	test("where the guard refuses its content, naming the place in the request", async () => {
		hub.guard.deny = () => {
			throw HubError.field("payload.json", "nests too deeply", "INVALID_CONTENT");
		};
		const error = await refusal(hub.emit({ type: "a" }));
		expect(error).toMatchObject({ reason: "INVALID_CONTENT", metadata: { field: "event.payload.json" } });
		async function* batches() {
			yield { batchId: 1n, events: [{ type: "" }, { type: "a" }] };
		}
		const frames = [];
		for await (const { frame } of hub.emitStream(batches())) frames.push(frame);
		expect(frames[1]?.value).toMatchObject({
			exceptions: [
				{ outcome: { value: { reason: "INVALID_EVENT_TYPE", metadata: { field: "events[0].type" } } } },
				{ outcome: { value: { reason: "INVALID_CONTENT", metadata: { field: "events[1].payload.json" } } } },
			],
		});
	});

	test("from an operator", async () => {
		expect((await refusal(hub.emit({ type: "a" }, operator))).reason).toBe("CALLER_NOT_ALLOWED");
	});

	test("that is missing", async () => {
		expect(await refusal(hub.emitBytes(new Uint8Array(0)))).toMatchObject({
			reason: "INVALID_FIELD",
			metadata: { field: "event" },
		});
	});

	test.each([
		["that ends within a field", [0x0a, 0x03, 0x12, 0x05, 0x61]],
		["longer than its request", [0x0a, 0x7f, 0x12, 0x01, 0x61]],
		["with a field of a wrong wire type", [0x0a, 0x02, 0x10, 0x01]],
		["that is not UTF-8", [0x0a, 0x06, 0x12, 0x01, 0x61, 0x1a, 0x01, 0xff]],
		["with field 0", [0x0a, 0x02, 0x02, 0x00]],
		["in a request that is cut off", [0x0a]],
	])("%s", async (_, bytes) => {
		expect((await refusal(hub.emitBytes(Uint8Array.from(bytes)))).reason).toBe("MALFORMED_REQUEST");
	});

	test("whose id was used with other content", async () => {
		await hub.emit({ id: "e", type: "a", subject: "1" });
		const error = await refusal(hub.emit({ id: "e", type: "a", subject: "2" }));
		expect(error).toMatchObject({ reason: "ID_REUSED", metadata: { epoch: hub.log.epoch, sequence: "1" } });
	});
});

test("the same event in another encoding is no other content", async () => {
	const attributes = (...keys: string[]) => keys.map((key) => [0x2a, 6, 0x0a, 1, key.charCodeAt(0), 0x12, 1, 0x31]);
	const request = (...fields: readonly (readonly number[])[]) => {
		const event = fields.flat();
		return Uint8Array.from([0x0a, event.length, ...event]);
	};
	const id = [0x0a, 1, 0x65];
	const type = [0x12, 1, 0x61];
	const first = await hub.emitBytes(request(id, type, ...attributes("a", "b")));
	const again = await hub.emitBytes(request(type, ...attributes("b", "a"), id));
	expect(again).toEqual({ ...first, duplicate: true });
	const error = await refusal(hub.emitBytes(request(id, type, ...attributes("a", "c"))));
	expect(error.reason).toBe("ID_REUSED");
});

test("publishing the same event again gives the first answer", async () => {
	const event = { id: "e", type: "a", payload: json('{"a":1}') };
	const first = await hub.emit(event);
	await hub.emit({ type: "b" });
	const again = await hub.emit(event);
	expect(again).toEqual({ ...first, duplicate: true });
	expect((await hub.emit(event, plugin("other"))).duplicate).toBe(false);
});

test("an id as long as allowed is remembered under a source as long as allowed", async () => {
	const caller = plugin("p".repeat(128));
	const event = {
		id: "e".repeat(128),
		type: Array(16).fill("t".repeat(64)).join("."),
		source: caller.kind === "plugin" ? caller.id : "",
	};
	expect(await hub.emit(event, caller)).toMatchObject({ id: event.id, duplicate: false });
	expect(await hub.emit(event, caller)).toMatchObject({ id: event.id, duplicate: true });
});

test("fields that the hub does not know are ignored and not kept", async () => {
	const event = toBinary(EventSchema, create(EventSchema, { id: "e", type: "a" }));
	const bytes = Uint8Array.from([0x0a, event.byteLength + 3, ...event, 0x7a, 0x01, 0x41, 0x12, 0x01, 0x41]);
	await hub.emitBytes(bytes);
	const { records } = await hub.log.read({ from: { sequence: 1 }, maxRecords: 1, maxBytes: 1 });
	expect(Buffer.from(records[0]!.bytes).includes(0x41)).toBe(false);
	expect(
		await hub.emitBytes(toBinary(EmitRequestSchema, create(EmitRequestSchema, { event: { id: "e", type: "a" } }))),
	).toMatchObject({ duplicate: true });
});

describe("a subscription is refused", () => {
	const position = (epoch: string, sequence: bigint) => ({
		from: { case: "after" as const, value: { epoch, sequence } },
	});
	test.each([
		["without patterns", { patterns: [] }, "INVALID_FIELD", "patterns"],
		["with 65 patterns", { patterns: Array(65).fill("a") }, "INVALID_FIELD", "patterns"],
		["with a bad pattern", { patterns: ["a", "a.**.b"] }, "INVALID_PATTERN", "patterns[1]"],
		["with a bad filter", { patterns: ["a"], filter: "event.type ==" }, "INVALID_FILTER", "filter"],
		["with a priority above 100", { patterns: ["a"], priority: 101 }, "INVALID_FIELD", "priority"],
		[
			"with an idle timeout of nothing",
			{ patterns: ["a"], idleTimeout: { seconds: 0n, nanos: 0 } },
			"INVALID_FIELD",
			"idle_timeout",
		],
		["with an empty start", { patterns: ["a"], start: {} }, "INVALID_FIELD", "start"],
		[
			"with a false start",
			{ patterns: ["a"], start: { from: { case: "newOnly", value: false } } },
			"INVALID_FIELD",
			"start.new_only",
		],
		[
			"with an impossible time",
			{ patterns: ["a"], start: { from: { case: "time", value: { nanos: -1 } } } },
			"INVALID_FIELD",
			"start.time",
		],
		[
			"with an impossible position",
			{ patterns: ["a"], start: position("EPOCH", 2n ** 64n - 1n) },
			"INVALID_FIELD",
			"start.after.sequence",
		],
	])("%s", async (_, request, reason, field) => {
		const start = "start" in request && request.start && "from" in request.start ? request.start : undefined;
		if (start?.from.case === "after") (start.from.value as { epoch: string }).epoch = hub.log.epoch;
		expect(await refusal(hub.subscribe(request as never).next())).toMatchObject({ reason, metadata: { field } });
	});

	test("after a position that the log has not reached, as one that was set back has not", async () => {
		await hub.emit({ type: "a" });
		const reached = hub.subscribe({ patterns: ["a"], start: position(hub.log.epoch, 1n) });
		expect((await reached.next()).done).toBe(false);
		await reached.return();
		const error = await refusal(hub.subscribe({ patterns: ["a"], start: position(hub.log.epoch, 2n) }).next());
		expect(error).toMatchObject({
			reason: "POSITION_TRIMMED",
			metadata: { epoch: hub.log.epoch, oldest_sequence: "1" },
		});
	});

	test("after a position of another epoch", async () => {
		const error = await refusal(hub.subscribe({ patterns: ["a"], start: position("gone", 1n) }).next());
		expect(error).toMatchObject({
			reason: "POSITION_TRIMMED",
			metadata: { epoch: hub.log.epoch, oldest_sequence: "1" },
		});
	});

	test.each([
		[{}, ["subscribe"]],
		[{ start: { from: { case: "everything", value: true } } }, ["subscribe", "replay"]],
		[{ start: { from: { case: "everything", value: true } }, live: false }, ["replay"]],
		[{ live: false }, ["replay"]],
	])("where a grant that %j needs is missing", async (request, needed) => {
		for (const missing of needed) {
			hub.guard.deny = (_, kind) => {
				if (kind === missing) throw new HubError("INSUFFICIENT_PERMISSIONS", `no grant in ${kind}`);
			};
			const error = await refusal(hub.subscribe({ patterns: ["a"], ...request } as never).next());
			expect(error.message).toBe(`no grant in ${missing}`);
		}
		hub.guard.asked.length = 0;
		hub.guard.deny = () => {};
		const frames = hub.subscribe({ patterns: ["a"], ...request } as never);
		await frames.next();
		expect(hub.guard.asked).toEqual(needed);
		await frames.return();
	});

	test("beyond the number that one plugin may have", async () => {
		const small = await EventHub.open({ subscriptions: { perPrincipal: 2 } });
		const open = [small.subscribe({ patterns: ["a"] }), small.subscribe({ patterns: ["a"] })];
		for (const frames of open) await frames.next();
		const error = await refusal(small.subscribe({ patterns: ["a"] }).next());
		expect(error).toMatchObject({ reason: "LIMIT_EXCEEDED", metadata: { limit: "2" } });
		const other = small.subscribe({ patterns: ["a"] }, new FakeCall(plugin("other")));
		await other.next();
		await open[0]!.return();
		const again = small.subscribe({ patterns: ["a"] });
		await again.next();
		for (const frames of [other, again, open[1]!]) await frames.return();
		small.assertNothingLeft();
		await small[Symbol.asyncDispose]();
	});
});

test("a storage fault reaches a unary caller and fails the entries of a batch", async () => {
	const fault = new StorageError("full", "not-written", "no space left");
	const broken = await EventHub.open({
		wrapLog: (log) => failing(log, fault),
	});
	await expect(broken.emit({ type: "a" })).rejects.toBe(fault);
	async function* batches() {
		yield { batchId: 1n, events: [{ type: "a" }, { type: "" }] };
	}
	const frames = [];
	for await (const { frame } of broken.emitStream(batches())) frames.push(frame);
	expect(frames[1]?.value).toMatchObject({
		batchId: 1n,
		stored: 0,
		exceptions: [
			{ index: 0, outcome: { case: "error", value: { code: 8, reason: "STORAGE_FULL" } } },
			{ index: 1, outcome: { case: "error", value: { code: 3, reason: "INVALID_EVENT_TYPE" } } },
		],
	});
	await broken[Symbol.asyncDispose]();
});

function failing(log: LogStore, fault: Error): LogStore {
	return {
		capabilities: log.capabilities,
		epoch: log.epoch,
		bounds: () => log.bounds(),
		append: () => Promise.reject(fault),
		read: (query) => log.read(query),
		tail: (listener) => log.tail(listener),
		trim: (retention) => log.trim(retention),
	};
}

test("an id published again is compared with its first, though history before it is dropped meanwhile", async () => {
	// The first of the two originals is dropped after the ids were looked up and before the originals are read.
	const hub = await EventHub.open({
		wrapLog: (log) => ({
			capabilities: log.capabilities,
			epoch: log.epoch,
			bounds: () => log.bounds(),
			append: (records) => log.append(records),
			read: (query) => {
				const isFirst = "sequence" in query.from && query.from.sequence === 1;
				return log.read(isFirst ? { ...query, from: { sequence: 3 } } : query);
			},
			tail: (listener) => log.tail(listener),
			trim: (retention) => log.trim(retention),
		}),
	});
	for (const id of ["1", "2", "3"]) await hub.emit({ id, type: "a", subject: id });
	async function* batches() {
		const events = ["1", "3"].map((id) => ({ id, type: "a", subject: "another" }));
		yield { batchId: 1n, events };
	}
	const frames = [];
	for await (const { frame } of hub.emitStream(batches())) frames.push(frame);
	expect(frames[1]).toMatchObject({
		value: {
			exceptions: [
				{ index: 0, outcome: { case: "duplicateOf", value: 1n } },
				{ index: 1, outcome: { case: "error", value: { reason: "ID_REUSED" } } },
			],
		},
	});
	await hub[Symbol.asyncDispose]();
});
