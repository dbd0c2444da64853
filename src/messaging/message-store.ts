import type { Clock, IdSource } from "../clock/clock.ts";
import type { CommitQueue } from "../state/commit-queue.ts";
import { prefixes } from "../state/key-layout.ts";
import type { KvEntry, KvStore } from "../state/kv-store.ts";
import { prefixEnd } from "../state/state-backend.ts";
import { hashText } from "../state/text-hash.ts";
import { BlockCache } from "./block-cache.ts";
import type { IdBatch } from "./id-batch.ts";
import { IdMarks } from "./id-marks.ts";
import { MailboxRecords, type RestoredMessage } from "./mailbox-records.ts";
import { SparseBlocks } from "./sparse-blocks.ts";
import { type MailboxStorage, StoredMailbox } from "./stored-mailbox.ts";

export interface MessageStoreOptions {
	readonly kv: KvStore;
	readonly queue: CommitQueue;
	readonly clock: Clock;
	readonly ids: IdSource;
	/** How long ids are remembered after a message was accepted, in milliseconds. Default 2 minutes. */
	readonly idWindowMs?: number;
	/** Ids of settled messages that are remembered at most; who has most loses its oldest. Default 200,000, about 25 MiB. */
	readonly maxMarks?: number;
	/** Bytes of messages that are kept in memory, beside the store, until they are delivered. Default 8 MiB. */
	readonly cacheBytes?: number;
	/** How long a block is kept at least of which little is left, in milliseconds. Default 5 seconds. */
	readonly sparsePatienceMs?: number;
}

const DEFAULTS = { idWindowMs: 120_000, maxMarks: 200_000, cacheBytes: 8 * 1024 * 1024 };
const PAGE = 1000;

/** The stored mailboxes of all plugins, and the memory that their messages may take. */
export class MessageStore implements Disposable {
	readonly queue: CommitQueue;
	readonly #storage: MailboxStorage;
	readonly #marks: IdMarks;
	readonly #sparse: SparseBlocks;
	readonly #mailboxes = new Map<string, StoredMailbox>();
	readonly #cache: BlockCache;

	constructor(options: MessageStoreOptions) {
		const { kv, queue, clock, ids, idWindowMs, maxMarks, cacheBytes } = { ...DEFAULTS, ...options };
		this.queue = queue;
		this.#marks = new IdMarks({ clock, queue, max: maxMarks, windowMs: idWindowMs });
		this.#sparse = new SparseBlocks(clock, options.sparsePatienceMs);
		this.#cache = new BlockCache(kv, cacheBytes);
		const [marks, sparse, cache] = [this.#marks, this.#sparse, this.#cache];
		this.#storage = {
			kv,
			queue,
			clock,
			marks,
			sparse,
			cache,
			idWindowMs,
			idSeed: hashText(ids.next(), 0).high,
			lastSequence: 0,
		};
	}

	/** Durable messages that are not settled. */
	get size(): number {
		let size = 0;
		for (const mailbox of this.#mailboxes.values()) size += mailbox.size;
		return size;
	}

	/** When the oldest of them was accepted, in milliseconds since the Unix epoch; undefined: there is none. */
	get oldest(): number | undefined {
		let oldest: number | undefined;
		for (const mailbox of this.#mailboxes.values()) {
			const time = mailbox.oldest;
			if (time !== undefined && (oldest === undefined || time < oldest)) oldest = time;
		}
		return oldest;
	}

	/** What is in memory beside the messages themselves. */
	get held(): { readonly marks: number; readonly cachedBytes: number } {
		return { marks: this.#marks.size, cachedBytes: this.#cache.written };
	}

	/** Refuses with ID_REUSED where the mailbox knows the id of another message. */
	requireUnused(pluginId: string, source: string, id: string, digest: string): void {
		this.#mailboxes.get(pluginId)?.requireUnused(source, id, digest);
	}

	mailbox(pluginId: string): StoredMailbox {
		let mailbox = this.#mailboxes.get(pluginId);
		if (mailbox === undefined) {
			mailbox = new StoredMailbox(pluginId, this.#storage);
			this.#mailboxes.set(pluginId, mailbox);
		}
		return mailbox;
	}

	/** Reads what is stored: what waits for each plugin, in the order of its acceptance. Once. */
	load(): ReadonlyMap<string, readonly RestoredMessage[]> {
		const waiting = new Map<string, readonly RestoredMessage[]>();
		const settled: IdBatch[] = [];
		let records: MailboxRecords | undefined;
		const finish = () => {
			if (records === undefined) return;
			const mailbox = this.mailbox(records.pluginId);
			const messages = records.restore(mailbox, this.#storage);
			if (messages.length > 0) waiting.set(records.pluginId, messages);
			settled.push(...records.restoreSettled(mailbox));
		};
		for (const entry of this.#entries()) {
			const pluginId = entry.key.split("/")[1] ?? "";
			if (records?.pluginId !== pluginId) {
				finish();
				records = new MailboxRecords(pluginId);
			}
			records.add(entry);
		}
		finish();
		settled.sort((a, b) => a.acceptTime - b.acceptTime);
		for (const batch of settled) this.#marks.add(batch);
		return waiting;
	}

	/** Forgets a plugin and deletes what it has; what comes for another of its id is stored beside that. */
	async purge(pluginId: string): Promise<void> {
		const mailbox = this.#mailboxes.get(pluginId);
		if (mailbox === undefined) return;
		this.#mailboxes.delete(pluginId);
		await mailbox.purge();
	}

	/** Forgets a mailbox that has nothing to remember. */
	dropIfEmpty(pluginId: string): void {
		if (this.#mailboxes.get(pluginId)?.isEmpty) this.#mailboxes.delete(pluginId);
	}

	[Symbol.dispose](): void {
		this.#marks[Symbol.dispose]();
		this.#sparse[Symbol.dispose]();
	}

	*#entries(): Generator<KvEntry, void, undefined> {
		const end = prefixEnd(prefixes.mailboxes);
		for (let start: string = prefixes.mailboxes; ; ) {
			const page = this.#storage.kv.range({ start, end, limit: PAGE });
			yield* page.entries;
			if (!page.more) return;
			start = `${page.entries.at(-1)!.key}\u0000`;
		}
	}
}
