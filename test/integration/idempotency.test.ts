import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { CapabilitiesSchema, RegisterRequestSchema } from "#gen/qirvo/hub/v1/plugin_service_pb.js";
import { type AnswerCodec, FirstAnswers, type FirstAnswersOptions } from "../../src/idempotency/first-answers.ts";
import { requestDigest } from "../../src/idempotency/request-digest.ts";
import { type KvCommit, type KvStore, StorageError } from "../../src/state/kv-store.ts";
import { openMemoryState } from "../../src/state/memory/open-memory-state.ts";
import { prefixEnd } from "../../src/state/state-backend.ts";
import { FakeClock, SequentialIds } from "../harness/fake-clock.ts";
import { unhurriedKv, wrapKv } from "../harness/kv-wrapper.ts";

const codec: AnswerCodec<string> = {
	encode: (answer) => Buffer.from(answer),
	decode: (bytes) => Buffer.from(bytes).toString(),
};

const clock = () => new FakeClock();
let opened: AsyncDisposable[] = [];

afterEach(async () => {
	for (const one of opened.reverse()) await one[Symbol.asyncDispose]();
	opened = [];
});

/** A store whose commits a test may break. */
function breakable(kv: KvStore) {
	const faults: ("before" | "after")[] = [];
	const slow = unhurriedKv(kv);
	const store = wrapKv(slow, {
		async commit(commit: KvCommit) {
			const fault = faults.shift();
			if (fault === "before") throw new StorageError("unavailable", "unknown", "lost on the way there");
			const result = await slow.commit(commit);
			if (fault === "after") throw new StorageError("unavailable", "unknown", "lost on the way back");
			return result;
		},
	});
	return { store, faults };
}

async function open(options: Partial<FirstAnswersOptions> = {}) {
	const held = (options.clock as FakeClock | undefined) ?? clock();
	// Ids are unique among nodes, as commits are named by them.
	const ids = new SequentialIds(options.kv ? "other-" : "id-");
	const state = openMemoryState({ clock: held, ids });
	const { store, faults } = breakable(options.kv ?? state.kv);
	const answers = new FirstAnswers({ clock: held, ids, ...options, kv: store });
	await answers.start();
	opened.push(state, answers);
	const kept = () =>
		store.range({ start: "idempotency/", end: prefixEnd("idempotency/"), limit: 1000 }).entries.map((one) => one.key);
	/** Adds one to a counter. */
	const add = (requestId: string | undefined, content = "add", principal = "plugin:a") => {
		const request = requestId && { principal, method: "counter.add", requestId, digest: Buffer.from(content) };
		return answers.settle(
			() => {
				const entry = store.get("counter");
				const value = String(Number(entry ? Buffer.from(entry.value).toString() : 0) + 1);
				return {
					checks: [{ key: "counter", revision: entry?.revision ?? 0 }],
					writes: [{ key: "counter", value: Buffer.from(value) }],
					answer: value,
				};
			},
			request ? { request, codec } : undefined,
		);
	};
	const total = () => Number(Buffer.from(store.get("counter")?.value ?? Buffer.from("0")).toString());
	return { clock: held, state, store, faults, answers, add, total, kept };
}

describe("a request id", () => {
	test("gives the first answer again, and the revision of what it wrote", async () => {
		const { add, total, store } = await open();
		const first = await add("r1");
		expect(first).toEqual({ answer: "1", duplicate: false, firstRevision: store.get("counter")?.revision });
		await add("r2");
		expect(await add("r1")).toEqual({ ...first, duplicate: true });
		expect(total()).toBe(2);
	});

	test("is its principal's own", async () => {
		const { add, total } = await open();
		await add("r1", "add", "plugin:a");
		expect((await add("r1", "add", "plugin:b")).duplicate).toBe(false);
		expect(total()).toBe(2);
	});

	test("with other content is refused, and changes nothing", async () => {
		const { add, total } = await open();
		await add("r1", "one");
		await expect(add("r1", "two")).rejects.toMatchObject({ reason: "ID_REUSED", metadata: { request_id: "r1" } });
		expect(total()).toBe(1);
	});

	test("is not used up by a refusal", async () => {
		const { answers, add } = await open();
		const request = { principal: "plugin:a", method: "counter.add", requestId: "r1", digest: Buffer.from("add") };
		const plan = () => {
			throw new Error("refused");
		};
		await expect(answers.settle<string>(plan, { request, codec })).rejects.toThrow("refused");
		expect((await add("r1")).duplicate).toBe(false);
	});

	test("is remembered for two minutes, then dropped, and may be used again", async () => {
		const { clock, add, total, kept } = await open();
		await add("r1", "one");
		await clock.advance(119_999);
		expect((await add("r1", "one")).duplicate).toBe(true);
		await clock.advance(1);
		expect((await add("r1", "two")).duplicate).toBe(false);
		expect((await add("r1", "two")).duplicate).toBe(true);
		expect(total()).toBe(2);
		await clock.advance(200_000);
		expect(kept()).toEqual([]);
	});

	test("is remembered across a restart", async () => {
		const first = await open();
		await first.add("r1");
		await first.answers[Symbol.asyncDispose]();
		const second = await open({ clock: first.clock, kv: first.state.kv });
		expect(await second.add("r1")).toMatchObject({ answer: "1", duplicate: true });
		await second.clock.advance(150_000);
		expect(second.kept()).toEqual([]);
	});

	test("counts against a bound of its principal and one of all", async () => {
		const { clock, add, total, kept } = await open({ maxPerPrincipal: 3, maxAnswers: 5 });
		for (const id of ["a", "b", "c"]) await add(id);
		await expect(add("d")).rejects.toMatchObject({ reason: "LIMIT_EXCEEDED" });
		expect((await add("a")).duplicate).toBe(true);
		await add(undefined);
		for (const id of ["a", "b"]) await add(id, "add", "plugin:b");
		await expect(add("c", "add", "plugin:b")).rejects.toMatchObject({ reason: "LIMIT_EXCEEDED" });
		expect(total()).toBe(6);
		expect(kept()).toHaveLength(5);
		await clock.advance(150_000);
		await add("d");
	});

	test("counts when it comes while others are dropped", async () => {
		const { clock, answers, add } = await open({ maxPerPrincipal: 3 });
		for (let at = 0; at < 1200; at++) await add(`r${at}`, "add", `plugin:z${at}`);
		await clock.advance(120_000 - 1);
		clock.stepWall(1);
		const purged = answers.purge();
		// The purge has passed where these belong and waits for its commits.
		await Promise.all(["a", "b", "z"].map((id) => add(id)));
		await purged;
		await expect(add("c")).rejects.toMatchObject({ reason: "LIMIT_EXCEEDED" });
		await answers.purge();
		await expect(add("c")).rejects.toMatchObject({ reason: "LIMIT_EXCEEDED" });
	});

	test("is dropped, too, where its time is far ahead of a clock that was stepped back", async () => {
		const { clock, add, kept } = await open();
		await add("r1", "one");
		clock.stepWall(-119_999);
		expect((await add("r1", "one")).duplicate).toBe(true);
		clock.stepWall(-1);
		expect((await add("r1", "two")).duplicate).toBe(false);
		clock.stepWall(-3_600_000);
		await clock.advance(30_000);
		expect(kept()).toEqual([]);
	});

	test("is dropped in pages, however many there are", async () => {
		const { clock, add, kept } = await open({ maxPerPrincipal: 5000 });
		for (let at = 0; at < 900; at++) await add(`r${at}`);
		await clock.advance(60_000);
		for (let at = 900; at < 1200; at++) await add(`r${at}`);
		await clock.advance(61_000);
		expect(kept()).toHaveLength(300);
		await clock.advance(120_000);
		expect(kept()).toEqual([]);
	});
});

describe("repeats at the same time", () => {
	test("settle on one answer, whoever is first", async () => {
		const { add, total } = await open();
		const all = await Promise.all(Array.from({ length: 50 }, () => add("r1")));
		expect(all.filter((one) => !one.duplicate)).toHaveLength(1);
		expect(new Set(all.map((one) => `${one.answer} ${one.firstRevision}`)).size).toBe(1);
		expect(total()).toBe(1);
	});

	test("need no check of the mutation's own", async () => {
		const { answers, store } = await open();
		const request = { principal: "plugin:a", method: "note.add", requestId: "r1", digest: Buffer.from("note") };
		let planned = 0;
		const note = () =>
			answers.settle(
				() => ({
					checks: [],
					writes: [{ key: `note/${planned++}`, value: Buffer.from("x") }],
					answer: "noted",
				}),
				{ request, codec },
			);
		await Promise.all([note(), note(), note()]);
		expect(planned).toBe(3);
		expect(store.range({ start: "note/", end: "note0", limit: 10 }).entries).toHaveLength(1);
	});

	test("of several nodes settle too", async () => {
		const one = await open();
		const two = await open({ clock: one.clock, kv: one.state.kv });
		const all = await Promise.all([one.add("r1"), two.add("r1"), one.add("r1"), two.add("r1")]);
		expect(all.filter((answer) => !answer.duplicate)).toHaveLength(1);
		expect(one.total()).toBe(1);
	});

	test("with other content beside them: one is done, the others are refused", async () => {
		const { add, total } = await open();
		const all = await Promise.allSettled(["x", "y", "x", "y"].map((content) => add("r1", content)));
		expect(all.map((one) => one.status)).toEqual(["fulfilled", "rejected", "fulfilled", "rejected"]);
		expect(total()).toBe(1);
	});

	test("under faults and in any order happen once each", async () => {
		const call = fc.record({ id: fc.constantFrom("r1", "r2", "r3", undefined), wait: fc.nat(3) });
		const fault = fc.constantFrom("none" as const, "before" as const, "after" as const);
		await fc.assert(
			fc.asyncProperty(fc.array(call, { maxLength: 20 }), fc.array(fault, { maxLength: 10 }), async (calls, faults) => {
				const counter = await open();
				for (const one of faults) counter.faults.push(one as "before");
				const sent = calls.map(async ({ id, wait }) => {
					for (let turn = 0; turn < wait; turn++) await Promise.resolve();
					for (let attempt = 0; attempt < 20; attempt++) {
						try {
							return { id, ...(await counter.add(id)) };
						} catch (error) {
							// A caller repeats what it has named; what it has not is not safe to repeat.
							if ((error as { reason?: string }).reason !== "STORAGE_UNAVAILABLE" || id === undefined) return undefined;
						}
					}
					throw new Error("never settled");
				});
				const settled = (await Promise.all(sent)).filter((one) => one !== undefined);
				const named = settled.filter((one) => one.id !== undefined);
				for (const id of new Set(named.map((one) => one.id))) {
					const mine = named.filter((one) => one.id === id);
					expect(new Set(mine.map((one) => one.answer)).size).toBe(1);
					expect(mine.filter((one) => !one.duplicate).length).toBeLessThanOrEqual(1);
				}
				const effects = new Set(settled.map((one) => one.answer));
				const unnamed = calls.filter((one) => one.id === undefined).length;
				const ids = new Set(named.map((one) => one.id)).size;
				expect(effects.size).toBe(settled.length - named.length + ids);
				expect(counter.total()).toBeGreaterThanOrEqual(effects.size);
				expect(counter.total()).toBeLessThanOrEqual(ids + unnamed);
			}),
			{ numRuns: 200 },
		);
	});
});

describe("a storage fault", () => {
	test("of unknown outcome is settled by asking again with the same commit", async () => {
		const { add, faults, total } = await open();
		faults.push("after");
		expect(await add(undefined)).toMatchObject({ answer: "1", duplicate: false });
		faults.push("before");
		expect(await add(undefined)).toMatchObject({ answer: "2" });
		expect(total()).toBe(2);
	});

	test("that stays is told, and the request id settles it later", async () => {
		const { add, faults, total } = await open();
		faults.push("after", "after");
		await expect(add("r1")).rejects.toMatchObject({ reason: "STORAGE_UNAVAILABLE", cause: expect.any(StorageError) });
		expect(await add("r1")).toMatchObject({ answer: "1", duplicate: true });
		expect(total()).toBe(1);
	});
});

describe("the digest of a request", () => {
	const digest = (request: Parameters<typeof create<typeof RegisterRequestSchema>>[1]) =>
		Buffer.from(requestDigest(RegisterRequestSchema, create(RegisterRequestSchema, request))).toString("hex");

	test("does not see the request id, the order of maps and unknown fields", () => {
		const one = create(CapabilitiesSchema, {
			costs: { a: 1, b: 2 },
			capabilityMetadata: { x: { description: "1" }, y: {} },
		});
		const two = create(CapabilitiesSchema, {
			costs: { b: 2, a: 1 },
			capabilityMetadata: { y: {}, x: { description: "1" } },
		});
		two.$unknown = [{ no: 999, wireType: 0, data: new Uint8Array([1]) }];
		expect(digest({ requestId: "a", capabilities: one })).toBe(digest({ requestId: "b", capabilities: two }));
	});

	test("sees everything else", () => {
		const all = [
			{},
			{ manifestJson: "{}" },
			{ withoutInstance: true },
			{ capabilities: {} },
			{ capabilities: { provides: ["a", "b"] } },
			{ capabilities: { provides: ["b", "a"] } },
			{ capabilities: { costs: { a: 1 } } },
			{ capabilities: { costs: { a: 2 } } },
			{ capabilities: { reliability: 0 } },
			{ capabilities: { capabilityMetadata: { a: {} } } },
			{ capabilities: { capabilityMetadata: { a: { examplesJson: ["1"] } } } },
			{ expected: { state: { case: "absent" as const, value: true } } },
			{ expected: { state: { case: "revision" as const, value: 0n } } },
		];
		expect(new Set(all.map(digest)).size).toBe(all.length);
	});

	test("leaves the request as it was", () => {
		const request = create(RegisterRequestSchema, { requestId: "a", capabilities: { costs: { b: 1, a: 2 } } });
		requestDigest(RegisterRequestSchema, request);
		expect(request.requestId).toBe("a");
		expect(Object.keys(request.capabilities!.costs)).toEqual(["b", "a"]);
	});
});
