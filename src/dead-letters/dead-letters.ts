import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type DeadLetterRecord, DeadLetterRecordSchema } from "#gen/qirvo/hub/storage/v1/records_pb.js";
import type { Clock, IdSource } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import type { CommitQueue } from "../state/commit-queue.ts";
import { keys, prefixes } from "../state/key-layout.ts";
import type { KvStore, KvWrite } from "../state/kv-store.ts";
import { prefixEnd } from "../state/state-backend.ts";
import { PluginLetters } from "./plugin-letters.ts";

/** What could not be delivered, as it is put here. */
export interface DeadLetterDraft {
	/** Who should have received it. */
	readonly pluginId: string;
	/** Where it came from: `mailbox`, or `subscription/<name>` of a durable subscription. Its owner alone can put it back. */
	readonly origin: string;
	/** What could not be delivered, as its origin has it. */
	readonly item: Uint8Array;
	/** Deliveries in vain. */
	readonly attempts: number;
	/** For people. */
	readonly reason: string;
}

/** A letter as it is stored. */
export interface DeadLetter extends DeadLetterDraft {
	readonly id: string;
	/** Milliseconds since the Unix epoch. */
	readonly time: number;
	/** What it counts for. */
	readonly bytes: number;
}

/** A letter that is on its way into the store, or out of it, in the commit of whoever asked. */
export interface LetterChange {
	/** To be stored together with the cause of the change. */
	readonly writes: readonly KvWrite[];
	/** To be called once, when it is known whether the writes are stored. */
	settled(isStored: boolean): void;
}

export interface DeadLetterBounds {
	/** Letters of one plugin. Default 10,000. */
	readonly letters: number;
	/** Their bytes. Default 64 MiB. */
	readonly bytes: number;
}

export interface DeadLettersOptions {
	readonly kv: KvStore;
	readonly queue: CommitQueue;
	readonly clock: Clock;
	readonly ids: IdSource;
	readonly bounds?: DeadLetterBounds;
}

/** A page of letters, and the key after which the next one begins; empty: there is none. */
export interface LetterPage {
	readonly letters: readonly DeadLetter[];
	readonly next: string;
}

const DEFAULT_BOUNDS: DeadLetterBounds = { letters: 10_000, bytes: 64 * 1024 * 1024 };
const PAGE = 1000;
/** Deletes in one commit. */
const DELETES = 500;
/** Places in the order of letters for each millisecond. */
const PLACES = 4096;

/**
 * What could not be delivered, kept for people to look at and to put back. Stored by plugin, oldest first; in memory are
 * ids and sizes only.
 *
 * - DL-1 A letter is stored, and removed, in the commit of its cause: a message is in its mailbox or here, an event due in
 *   its durable subscription or here, never both.
 * - DL-2 A plugin's letters are bounded; the oldest make room and are counted as dropped.
 * - DL-3 A letter that is being taken out cannot be taken a second time, unless the first time comes to nothing.
 * - DL-4 Letters have the order in which they were put here, by their ids, whatever the clock does.
 */
export class DeadLetters {
	/** Letters put here since the hub started. */
	parked = 0;
	/** Letters that made room for newer ones since the hub started. */
	dropped = 0;
	readonly #kv: KvStore;
	readonly #queue: CommitQueue;
	readonly #clock: Clock;
	readonly #ids: IdSource;
	readonly #bounds: DeadLetterBounds;
	readonly #plugins = new Map<string, PluginLetters>();
	/** DL-4. The place of the last letter. */
	#last = 0;

	constructor(options: DeadLettersOptions) {
		this.#kv = options.kv;
		this.#queue = options.queue;
		this.#clock = options.clock;
		this.#ids = options.ids;
		this.#bounds = options.bounds ?? DEFAULT_BOUNDS;
	}

	/** Letters of all plugins. */
	get size(): number {
		let size = 0;
		for (const letters of this.#plugins.values()) size += letters.size;
		return size;
	}

	/** Reads what is stored. Once, before anything else. */
	load(): void {
		for (let start: string = prefixes.deadLetters; ; ) {
			const page = this.#kv.range({ start, end: prefixEnd(prefixes.deadLetters), limit: PAGE });
			for (const { key, value } of page.entries) {
				const { pluginId, id } = parseKey(key);
				const { origin, bytes } = letterOf(key, value);
				this.#of(pluginId).add(id, { origin, bytes });
				this.#last = Math.max(this.#last, Number.parseInt(id, 16));
			}
			if (!page.more) return;
			start = after(page.entries.at(-1)!.key);
		}
	}

	/** DL-1, DL-2. At most 101 writes, with at most 1 KiB beside the item and the reason. */
	park(draft: DeadLetterDraft): LetterChange {
		const time = this.#clock.now();
		// Begins with its place, so that the order of keys is that of letters.
		this.#last = Math.max(time * PLACES, this.#last + 1);
		const id = `${this.#last.toString(16).padStart(14, "0")}-${this.#ids.next()}`;
		const { pluginId, origin, item, attempts, reason } = draft;
		const record = create(DeadLetterRecordSchema, { origin, item, attempts, reason, timeMs: BigInt(time) });
		const value = toBinary(DeadLetterRecordSchema, record);
		const letters = this.#of(pluginId);
		letters.add(id, { origin, bytes: value.byteLength });
		const oldest = letters.claimOverflow(this.#bounds);
		const writes: KvWrite[] = [{ key: keys.deadLetter(pluginId, id), value }];
		for (const each of oldest) writes.push({ key: keys.deadLetter(pluginId, each), delete: true });
		return {
			writes,
			settled: (isStored) => {
				if (isStored) {
					this.parked++;
					this.dropped += oldest.length;
					for (const each of oldest) letters.remove(each);
				} else {
					letters.remove(id);
					for (const each of oldest) letters.release(each);
				}
				this.#forgetEmpty(pluginId);
			},
		};
	}

	/** DL-3. Takes a letter out, with the commit of whoever puts it back. Refuses with DEAD_LETTER_NOT_FOUND. */
	take(pluginId: string, id: string): LetterChange {
		const letters = this.#plugins.get(pluginId);
		if (!letters?.claim(id)) throw notFound(pluginId, id);
		return {
			writes: [{ key: keys.deadLetter(pluginId, id), delete: true }],
			settled: (isStored) => {
				if (isStored) letters.remove(id);
				else letters.release(id);
				this.#forgetEmpty(pluginId);
			},
		};
	}

	/** Refuses with DEAD_LETTER_NOT_FOUND. */
	get(pluginId: string, id: string): DeadLetter {
		const entry = this.#plugins.get(pluginId)?.has(id) ? this.#kv.get(keys.deadLetter(pluginId, id)) : undefined;
		if (entry === undefined) throw notFound(pluginId, id);
		return letterOf(entry.key, entry.value);
	}

	/** The oldest `limit` ids of a plugin, and whether there are more; only those of the origin unless it is empty. */
	oldest(pluginId: string, limit: number, origin = ""): { readonly ids: readonly string[]; readonly more: boolean } {
		return this.#plugins.get(pluginId)?.oldest(limit, origin) ?? { ids: [], more: false };
	}

	/**
	 * At most `limit` (1 to 1,000) letters, of one plugin or (where it is empty) of all; only those of the origin unless it is
	 * empty. `cursor` is a page's `next`.
	 */
	list(pluginId: string, limit: number, cursor: string, origin = ""): LetterPage {
		const prefix = pluginId === "" ? prefixes.deadLetters : `${prefixes.deadLetters}${pluginId}/`;
		const start = cursor === "" ? prefix : after(prefixes.deadLetters + cursor);
		const { entries, more } = this.#kv.range({ start, end: prefixEnd(prefix), limit });
		const last = entries.at(-1)?.key ?? "";
		const letters = entries.map(({ key, value }) => letterOf(key, value));
		return {
			letters: origin === "" ? letters : letters.filter((letter) => letter.origin === origin),
			next: more ? last.slice(prefixes.deadLetters.length) : "",
		};
	}

	/** Removes a letter for good. Refuses with DEAD_LETTER_NOT_FOUND. */
	async delete(pluginId: string, id: string): Promise<void> {
		const change = this.take(pluginId, id);
		try {
			await this.#queue.store(change.writes);
			change.settled(true);
		} catch (error) {
			change.settled(false);
			throw error;
		}
	}

	/** Removes all that a plugin has; it is gone, and another of its id must not inherit them. */
	async purge(pluginId: string): Promise<void> {
		const letters = this.#plugins.get(pluginId);
		if (letters === undefined) return;
		this.#plugins.delete(pluginId);
		const { ids } = letters;
		for (let from = 0; from < ids.length; from += DELETES) {
			const writes = ids.slice(from, from + DELETES).map((id) => ({
				key: keys.deadLetter(pluginId, id),
				delete: true as const,
			}));
			await this.#queue.store(writes);
		}
	}

	/** Plugins that have letters. */
	pluginIds(): Iterable<string> {
		return this.#plugins.keys();
	}

	#of(pluginId: string): PluginLetters {
		let letters = this.#plugins.get(pluginId);
		if (letters === undefined) {
			letters = new PluginLetters();
			this.#plugins.set(pluginId, letters);
		}
		return letters;
	}

	#forgetEmpty(pluginId: string): void {
		if (this.#plugins.get(pluginId)?.size === 0) this.#plugins.delete(pluginId);
	}
}

function letterOf(key: string, value: Uint8Array): DeadLetter {
	const { pluginId, id } = parseKey(key);
	const record: DeadLetterRecord = fromBinary(DeadLetterRecordSchema, value);
	const { origin, item, attempts, reason } = record;
	return { pluginId, id, origin, item, attempts, reason, time: Number(record.timeMs), bytes: value.byteLength };
}

function parseKey(key: string): { readonly pluginId: string; readonly id: string } {
	const [, pluginId = "", id = ""] = key.split("/");
	return { pluginId, id };
}

function after(key: string): string {
	return `${key}\u0000`;
}

function notFound(pluginId: string, id: string): HubError {
	const name = id.slice(0, 64);
	return new HubError("DEAD_LETTER_NOT_FOUND", "the plugin has no such dead letter", {
		metadata: { plugin_id: pluginId, id: name },
		resource: { type: "dead letter", name },
	});
}
