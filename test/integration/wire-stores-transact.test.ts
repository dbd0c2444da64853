import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { expect, it } from "vitest";
import { FailedChecksSchema, type TransactionWriteSchema } from "#gen/qirvo/hub/v1/entries_pb.js";
import { failureOf } from "../harness/failure.ts";
import { describeHubs } from "../harness/hub.ts";
import { contents, expects, failedChecksOf, setOf } from "../harness/store-values.ts";

type Write = MessageInitShape<typeof TransactionWriteSchema>;

const set = (store: string, key: string, value: unknown, more: object = {}): Write => ({
	write: { case: "set", value: setOf(store, key, value, more) },
});
const remove = (store: string, key: string): Write => ({ write: { case: "delete", value: { store, key } } });
const add = (store: string, key: string, delta: bigint): Write => ({
	write: { case: "increment", value: { store, key, delta } },
});
const append = (store: string, key: string, elementJson: string): Write => ({
	write: { case: "append", value: { store, key, elementJson } },
});

describeHubs("a transaction", (start) => {
	it("writes to several stores, all or nothing, and says of each write what it did", async () => {
		await using hub = await start();
		const { stores } = await hub.enrol("plugin");
		for (const persistent of [true, false]) {
			const [one, two] = persistent ? ["p1", "p2"] : ["v1", "v2"];
			for (const name of [one!, two!]) await stores.createStore({ name, config: { persistent } });
			await stores.set({ set: setOf(one!, "gone", 1) });
			const writes = [
				set(one!, "a", 1, { returnPrevious: true }),
				remove(one!, "gone"),
				remove(two!, "never"),
				add(two!, "n", -3n),
				append(two!, "list", '"x"'),
			];
			const answer = await stores.transact({ checks: [{ store: one!, key: "a", expected: expects.absent }], writes });
			expect(answer.results.map(({ changed, number }) => [changed, number])).toEqual([
				[true, 0n],
				[true, 0n],
				[false, 0n],
				[true, -3n],
				[true, 0n],
			]);
			expect(answer.transactionId).not.toBe("");
			expect(contents((await stores.list({ store: one! })).entries)).toEqual({ a: 1 });
			expect(contents((await stores.list({ store: two! })).entries)).toEqual({ n: -3, list: ["x"] });

			const { entry } = await stores.get({ store: one!, key: "a" });
			const refused = stores.transact({
				checks: [
					{ store: one!, key: "a", expected: expects.absent },
					{ store: two!, key: "never", expected: expects.exists },
					{ store: two!, key: "n", expected: expects.exists },
				],
				writes: [set(two!, "b", 1), set(one!, "c", 1, { expected: expects.exists })],
			});
			const failed = await failedChecksOf(refused);
			expect(failed).toHaveLength(3);
			expect(failed).toEqual(
				expect.arrayContaining([
					expect.objectContaining({ store: one, key: "a", actualRevision: entry!.revision }),
					expect.objectContaining({ store: two, key: "never", actualRevision: 0n }),
					expect.objectContaining({ store: one, key: "c", actualRevision: 0n }),
				]),
			);
			expect(await failureOf(stores.get({ store: two!, key: "b" }))).toMatchObject({ reason: "ENTRY_NOT_FOUND" });
		}
		const mixed = stores.transact({ writes: [set("p1", "m", 1), set("v1", "m", 1)] });
		expect(await failureOf(mixed)).toMatchObject({ code: "FailedPrecondition", reason: "MIXED_PERSISTENCE" });
		const checked = { checks: [{ store: "v1", key: "m", expected: expects.absent }], writes: [set("p1", "m", 1)] };
		expect(await failureOf(stores.transact(checked))).toMatchObject({ reason: "MIXED_PERSISTENCE" });
		expect(await failureOf(stores.get({ store: "p1", key: "m" }))).toMatchObject({ reason: "ENTRY_NOT_FOUND" });
	});

	it("is refused beyond its bounds, and where a write in it is", async () => {
		await using hub = await start();
		const { stores } = await hub.enrol("plugin");
		await (await hub.enrol("other")).stores.createStore({ name: "theirs", config: { read: { plugins: ["*"] } } });
		await stores.createStore({ name: "s" });
		await stores.createStore({ name: "deep", config: { history: 2 } });
		const many = (count: number, store = "s") =>
			Array.from({ length: count }, (_, index) => set(store, `k${index}`, 1));
		expect((await stores.transact({ writes: many(500) })).results).toHaveLength(500);
		const tooMany = [
			{ writes: many(501) },
			{ writes: many(499), checks: Array(2).fill({ store: "s", key: "x", expected: expects.absent }) },
			{ writes: many(481, "deep") },
			{ writes: [set("s", "x", "x".repeat(600_000)), set("s", "y", "x".repeat(600_000))] },
		];
		for (const request of tooMany) {
			expect(await failureOf(stores.transact(request))).toMatchObject({
				code: "ResourceExhausted",
				reason: "LIMIT_EXCEEDED",
			});
		}
		const check = { store: "s", key: "x", expected: expects.absent };
		const bad: [object, string][] = [
			[{}, "writes"],
			[{ writes: [{}] }, "writes[0].write"],
			[{ writes: [set("s", "x", 1), add("s", "x", 1n)] }, "writes[1].increment.key"],
			[{ writes: [set("s", "", 1)] }, "writes[0].set.key"],
			[
				{ writes: [set("s", "x", 1), { write: { case: "set", value: { store: "s", key: "y" } } }] },
				"writes[1].set.value",
			],
			[{ writes: [append("s", "x", "[")] }, "writes[0].append.element_json"],
			[{ checks: [{ store: "s", key: "x" }] }, "checks[0].expected"],
			[{ checks: [check, { ...check, store: "" }] }, "checks[1].store"],
			[{ writes: [set("s", "x", 1)], requestId: "x".repeat(129) }, "request_id"],
		];
		for (const [request, field] of bad) expect((await failureOf(stores.transact(request))).fields).toEqual([field]);
		const theirs = { writes: [set("s", "x", 1), set("theirs", "x", 1)] };
		expect(await failureOf(stores.transact(theirs))).toMatchObject({ reason: "INSUFFICIENT_PERMISSIONS" });
		expect(await failureOf(stores.get({ store: "s", key: "x" }))).toMatchObject({ reason: "ENTRY_NOT_FOUND" });
		// What may be read may be checked.
		await stores.transact({ checks: [{ ...check, store: "theirs" }], writes: [set("s", "x", 1)] });
	});

	it("says what failed also where that is more than a status has room for", async () => {
		await using hub = await start();
		const { stores } = await hub.enrol("plugin");
		await stores.createStore({ name: "s" });
		for (const [length, all] of [
			[4, false],
			[512, false],
			[512, true],
		] as const) {
			const keys = Array.from({ length: all ? 5 : 500 }, (_, index) => `${index}-`.padEnd(length, "x"));
			const checks = keys.map((key) => ({ store: "s", key, expected: expects.exists }));
			const error = await stores.transact({ checks }).catch((error: unknown) => ConnectError.from(error));
			expect(error).toMatchObject({ code: Code.Aborted });
			const [found] = (error as ConnectError).findDetails(FailedChecksSchema);
			expect(found!.checks.length + found!.omitted).toBe(keys.length);
			expect(found!.omitted > 0).toBe(!all);
			expect(found!.checks.map(({ key }) => key)).toEqual(keys.slice(0, found!.checks.length));
		}
	});

	it("is done once for a request id", async () => {
		await using hub = await start();
		const { stores } = await hub.enrol("plugin");
		for (const persistent of [true, false]) {
			const store = persistent ? "p" : "v";
			await stores.createStore({ name: store, config: { persistent } });
			const request = { writes: [add(store, "n", 1n), set(store, "k", 1)], requestId: `t-${store}` };
			const answers = await Promise.all([1, 2, 3].map(() => stores.transact(request)));
			expect(answers.map(({ duplicate }) => duplicate).toSorted()).toEqual([false, true, true]);
			expect(new Set(answers.map(({ transactionId }) => transactionId)).size).toBe(1);
			expect(new Set(answers.map(({ results }) => results.map(({ revision }) => revision).join())).size).toBe(1);
			expect(contents((await stores.list({ store })).entries)).toEqual({ n: 1, k: 1 });
		}
	});

	it("moves between two keys what nobody ever sees in both or in neither", async () => {
		await using hub = await start();
		const { stores } = await hub.enrol("plugin");
		await stores.createStore({ name: "s" });
		await stores.set({ set: setOf("s", "a", 1) });
		let at = ["a", "b"];
		let moving = true;
		const move = async () => {
			for (let round = 0; round < 50; round++) {
				const [from, to] = at;
				await stores.transact({ writes: [remove("s", from!), set("s", to!, round)] });
				at = [to!, from!];
			}
			moving = false;
		};
		const look = async () => {
			for (; moving; ) {
				const { entries } = await stores.list({ store: "s" });
				expect(entries).toHaveLength(1);
			}
		};
		await Promise.all([move(), look(), look()]);
	});
});
