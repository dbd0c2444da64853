import { fromBinary } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { EntrySchema } from "#gen/qirvo/hub/v1/entries_pb.js";
import { HubError } from "../../src/hub-error.ts";
import type { ExpectedRevision } from "../../src/state/expected-revision.ts";
import type { KvStore } from "../../src/state/kv-store.ts";
import type { EntryWrite, Written } from "../../src/stores/entry-write.ts";
import type { OpenStore } from "../../src/stores/open-store.ts";
import { type Recorded, type Seen, unsound } from "../harness/entry-history.ts";
import { wrapKv } from "../harness/kv-wrapper.ts";
import { backends } from "../harness/state-backends.ts";
import { ANY, at, check, increment, StoreWorld, set, textOf } from "../harness/store-world.ts";

/** Histories on each backend: 500 in CI, 10,000 on request. */
const SEEDS = Number(process.env.STORE_SEEDS ?? 60);
/** The first of them, to run one again that failed. */
const FIRST_SEED = Number(process.env.STORE_SEED ?? 1);
const CLIENTS = 4;
const OPERATIONS = 8;
const KEYS = ["a", "b", "c"];
const NOTHING: Seen = { revision: 0, text: undefined };

/** Numbers from 0 to 1, the same for the same seed. */
function random(seed: number): () => number {
	let state = seed;
	return () => {
		state = (state + 0x6d2b79f5) | 0;
		let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
		mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
		return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
	};
}

describe.each(backends)("operations on few entries on $name", (backend) => {
	test(`happen one after another, ${SEEDS} times`, { timeout: 60_000 + SEEDS * 500 }, async () => {
		let next = random(0);
		const slow = (kv: KvStore): KvStore =>
			wrapKv(kv, {
				async commit(commit) {
					for (let turns = Math.floor(next() * 4); turns > 0; turns--) await new Promise(setImmediate);
					const result = await kv.commit(commit);
					if (next() < 0.3) await new Promise(setImmediate);
					return result;
				},
			});
		await using world = await StoreWorld.open(backend, { wrap: slow });
		for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
			next = random(seed);
			const persistent = seed % 2 === 0;
			const store = await world.create(`s-${seed}`, { persistent, history: seed % 3 });
			const history = await new Run(world, store, next).all();
			expect({ seed, unsound: unsound(history) }).toEqual({ seed, unsound: undefined });
			await world.stores.definitions.delete(store.name, { expected: ANY, validateOnly: false, also: [] });
			await world.stores.idle();
		}
	});
});

/** Some clients, each of which asks for one thing after another. */
class Run {
	readonly #world: StoreWorld;
	readonly #store: OpenStore;
	readonly #next: () => number;
	readonly #history: Recorded[] = [];
	#time = 0;

	constructor(world: StoreWorld, store: OpenStore, next: () => number) {
		this.#world = world;
		this.#store = store;
		this.#next = next;
	}

	async all(): Promise<readonly Recorded[]> {
		await Promise.all(Array.from({ length: CLIENTS }, (_, client) => this.#client(`p${client}`)));
		return this.#history;
	}

	async #client(writer: string): Promise<void> {
		const seen = new Map<string, Seen>();
		for (let index = 0; index < OPERATIONS; index++) {
			if (this.#next() < 0.3) await new Promise(setImmediate);
			const recorded = await this.#operation(writer, seen, `${writer}#${index}`);
			this.#history.push(recorded);
			for (const [key, what] of recorded.found) seen.set(key, what);
			for (const [key, what] of recorded.wrote) seen.set(key, what);
		}
	}

	#operation(writer: string, seen: ReadonlyMap<string, Seen>, what: string): Promise<Recorded> {
		const dice = this.#next();
		const key = this.#pick();
		if (dice < 0.25) return this.#get(key, what);
		if (dice < 0.35) return this.#list(what);
		const others = KEYS.filter((each) => each !== key);
		const writes = [this.#write(key, seen, what)];
		if (dice > 0.75) writes.push(this.#write(others[0]!, seen, what));
		const checks = dice > 0.85 ? [check(this.#store, others[1]!, this.#expected(others[1]!, seen))] : [];
		return this.#submit(writer, writes, checks, what);
	}

	async #get(key: string, what: string): Promise<Recorded> {
		const invoked = this.#time++;
		const entry = this.#world.get(this.#store, key);
		const found = new Map([[key, entry ? { revision: Number(entry.revision), text: textOf(entry) } : NOTHING]]);
		return { invoked, answered: this.#time++, found, wrote: new Map(), what: `${what} get ${key}` };
	}

	async #list(what: string): Promise<Recorded> {
		const invoked = this.#time++;
		const found = new Map<string, Seen>(KEYS.map((key) => [key, NOTHING]));
		for (const entry of this.#world.list(this.#store).entries) {
			found.set(entry.key, { revision: Number(entry.revision), text: textOf(entry) });
		}
		return { invoked, answered: this.#time++, found, wrote: new Map(), what: `${what} list` };
	}

	async #submit(
		writer: string,
		writes: readonly EntryWrite[],
		checks: readonly ReturnType<typeof check>[],
		what: string,
	): Promise<Recorded> {
		const invoked = this.#time++;
		let written: Written | undefined;
		let error: unknown;
		await this.#world.submit({ writer, writes, checks }).then(
			(value) => {
				written = value;
			},
			(thrown: unknown) => {
				error = thrown;
			},
		);
		const answered = this.#time++;
		const found = new Map<string, Seen>();
		const wrote = new Map<string, Seen & { at: number }>();
		if (written === undefined) {
			if (!(error instanceof HubError) || error.reason !== "REVISION_MISMATCH") throw error;
			for (const { key, actual } of error.options.failedChecks!) found.set(key, { revision: actual, text: undefined });
			return { invoked, answered, found, wrote, what: `${what} refused` };
		}
		for (const { key, expected } of checks) noteExpected(found, key, expected);
		for (const [index, write] of writes.entries()) {
			const { revision, previous, changed, number } = written.results[index]!;
			const { key } = write;
			if (write.kind === "increment") {
				const before = number! - Number(write.delta);
				if (before !== 0) found.set(key, { revision: -1, text: String(before) });
				wrote.set(key, { revision, text: String(number), at: revision });
			} else if (write.kind === "set" || write.kind === "delete") {
				noteExpected(found, key, write.expected);
				const entry = previous && fromBinary(EntrySchema, previous);
				found.set(key, entry ? { revision: Number(entry.revision), text: textOf(entry) } : NOTHING);
				if (write.kind === "set") wrote.set(key, { revision, text: JSON.stringify(numberOf(what)), at: revision });
				else if (changed) wrote.set(key, { ...NOTHING, at: revision });
			}
		}
		// A number tells what was there, not as of which revision.
		for (const [key, one] of found) if (one.revision < 0) found.delete(key);
		return { invoked, answered, found, wrote, what: `${what} ${writes.map(({ kind, key }) => `${kind} ${key}`)}` };
	}

	#write(key: string, seen: ReadonlyMap<string, Seen>, what: string): EntryWrite {
		const store = this.#store;
		const dice = this.#next();
		const expected = this.#expected(key, seen);
		if (dice < 0.2) return { kind: "delete", store, key, expected, returnPrevious: true };
		const number = Number(seen.get(key)?.text ?? Number.NaN);
		if (dice < 0.4 && Number.isSafeInteger(number)) return increment(store, key, 1);
		return set(store, key, numberOf(what), { expected, returnPrevious: true });
	}

	#expected(key: string, seen: ReadonlyMap<string, Seen>): ExpectedRevision {
		const dice = this.#next();
		if (dice < 0.4) return ANY;
		const revision = seen.get(key)?.revision ?? 0;
		return revision === 0 ? { kind: "absent" } : at(revision);
	}

	#pick(): string {
		return KEYS[Math.floor(this.#next() * KEYS.length)]!;
	}
}

/** Numbers, so that what is set can be added to. Each operation's own. */
function numberOf(what: string): number {
	return [...what].reduce((sum, character) => sum * 31 + character.charCodeAt(0), 7);
}

function noteExpected(found: Map<string, Seen>, key: string, expected: ExpectedRevision): void {
	if (expected.kind === "absent") found.set(key, NOTHING);
	if (expected.kind === "revision") found.set(key, { revision: Number(expected.revision), text: undefined });
}
