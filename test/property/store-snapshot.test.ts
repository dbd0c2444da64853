import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { UsageRecordSchema } from "#gen/qirvo/hub/storage/v1/records_pb.js";
import { EntrySchema } from "#gen/qirvo/hub/v1/entries_pb.js";
import type { KvStore } from "../../src/state/kv-store.ts";
import { ByteSlabs } from "../../src/stores/byte-slabs.ts";
import { encodeEntry } from "../../src/stores/entry-record.ts";
import { storeKeys } from "../../src/stores/store-keys.ts";
import { StoreSnapshot } from "../../src/stores/store-snapshot.ts";
import { refusal } from "../harness/refusal.ts";
import { backends } from "../harness/state-backends.ts";

const RUNS = Number(process.env.SNAPSHOT_RUNS ?? 100);
const STORE = "store0";

/** The keys that a commit changes; `true` writes, `false` deletes. */
type Change = Readonly<Record<string, boolean>>;

const change: fc.Arbitrary<Change> = fc.dictionary(fc.constantFrom(..."abcdefghijkl"), fc.boolean(), { maxKeys: 4 });

class Model {
	readonly #kv: KvStore;
	readonly entries = new Map<string, number>();
	#commits = 0;

	constructor(kv: KvStore) {
		this.#kv = kv;
	}

	async commit(asked: Change): Promise<void> {
		const number = ++this.#commits;
		const next = new Map(this.entries);
		const writes = Object.entries(asked).map(([key, isWrite]) => {
			const name = storeKeys.entry(STORE, key);
			if (!isWrite) {
				next.delete(key);
				return { key: name, delete: true } as const;
			}
			next.set(key, number);
			const facts = { writer: "w", instanceId: "", expireTime: 0, transactionId: "", older: [] };
			const draft = { key, value: new Uint8Array(), created: number, updateTime: number, facts };
			return { key: name, value: encodeEntry(draft, new ByteSlabs()) };
		});
		const usage = toBinary(UsageRecordSchema, create(UsageRecordSchema, { keys: BigInt(next.size) }));
		await this.#kv.commit({ id: `c${number}`, writes: [...writes, { key: storeKeys.usage(STORE, ""), value: usage }] });
		this.entries.clear();
		for (const [key, value] of next) this.entries.set(key, value);
	}

	get sorted(): [string, number][] {
		return [...this.entries].sort(([a], [b]) => (a < b ? -1 : 1));
	}
}

describe.each(backends)("a snapshot of a store ($name)", ({ open }) => {
	test("is what was there when it began, whatever is written while it is read", async () => {
		await fc.assert(
			fc.asyncProperty(
				fc.array(change, { maxLength: 6 }),
				fc.array(fc.array(change, { maxLength: 3 }), { maxLength: 12 }),
				fc.integer({ min: 1, max: 4 }),
				async (before, between, pageEntries) => {
					await using opened = await open();
					const { kv } = opened.state;
					const model = new Model(kv);
					for (const each of before) await model.commit(each);
					const expected = model.sorted;
					using snapshot = new StoreSnapshot({ kv, storeId: STORE, pageEntries });
					const found: [string, number][] = [];
					for (let round = 0; ; round++) {
						// Some are on their way while the page is read.
						const writing = (between[round] ?? []).reduce(
							(done, each) => done.then(() => model.commit(each)),
							Promise.resolve(),
						);
						if (round % 2 === 0) await writing;
						const page = await snapshot.next();
						await writing;
						if (page === undefined) break;
						for (const entry of page) {
							const { key, updateTime } = fromBinary(EntrySchema, entry);
							found.push([key, Number(updateTime!.nanos) / 1_000_000]);
						}
					}
					expect(found).toEqual(expected);
				},
			),
			{ numRuns: open === backends[0]!.open ? RUNS : Math.ceil(RUNS / 10) },
		);
	});

	test("ends where more is changed before it than may be held", async () => {
		await using opened = await open();
		const { kv } = opened.state;
		const model = new Model(kv);
		await model.commit({ a: true, b: true, c: true, d: true });
		using snapshot = new StoreSnapshot({ kv, storeId: STORE, pageEntries: 1, maxHeldBytes: 500 });
		expect(await snapshot.next()).toHaveLength(1);
		await model.commit({ a: true, b: true });
		expect(await snapshot.next()).toHaveLength(1);
		await model.commit({ c: true, d: true, e: true, f: true });
		expect((await refusal(snapshot.next())).reason).toBe("LIMIT_EXCEEDED");
	});
});
