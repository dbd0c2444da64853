import type { SettledId } from "#gen/qirvo/hub/storage/v1/records_pb.js";
import type { Clock } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import type { CommitQueue } from "../state/commit-queue.ts";
import { keys } from "../state/key-layout.ts";
import type { KvStore, KvWrite } from "../state/kv-store.ts";
import type { AcceptedMessage } from "./accepted-message.ts";
import type { IdMarks } from "./id-marks.ts";
import { KnownId, KnownIds } from "./known-ids.ts";
import { decodeRecord, encodeAttempts, encodeMessage } from "./mailbox-record.ts";
import type { QueuedMessage, StoredPlace } from "./queued-message.ts";
import { encodeSettledIds, SettledIds } from "./settled-ids.ts";

/** What the mailboxes of one hub share. */
export interface MailboxStorage {
	readonly kv: KvStore;
	readonly queue: CommitQueue;
	readonly clock: Clock;
	readonly marks: IdMarks;
	/** How long ids are remembered after a message was accepted, in milliseconds. */
	readonly idWindowMs: number;
	/** The last one that was given out. Of all mailboxes, so that none comes again while marks of a forgotten one are left. */
	lastSequence: number;
}

/** A durable message has its place; it always does where this is called for. */
export type StoredMessage = QueuedMessage & { readonly stored: StoredPlace };

export function isStored(message: QueuedMessage): message is StoredMessage {
	return message.stored !== undefined;
}

/** What a settled callback is told: undefined once it is stored, else why it is not. */
type Settled = (error?: unknown) => void;

interface Settlement {
	readonly message: StoredMessage;
	readonly settled: Settled;
}

/** What is stored beside a message, about its deliveries; behind the message's key, so that it follows it. */
export const NOTE_SUFFIX = ".d";

/** The ids of messages that were settled together, behind the key of the first of them. */
export const SETTLED_SUFFIX = ".m";

const DELETES = 500;

/** With its note each takes two of a commit's writes. */
const SETTLED_TOGETHER = 400;

/**
 * The stored side of one mailbox. This process is its only writer.
 *
 * - SM-1 A message is one record, written once; `note` writes a small one beside it.
 * - SM-2 Settling messages deletes their records, and writes one with the ids among theirs that their senders chose lately.
 * - SM-3 An id is known from the moment its message is taken, for the window after that or as long as it is not settled,
 *   whichever is longer; unless there are more ids than the hub keeps.
 */
export class StoredMailbox {
	readonly pluginId: string;
	readonly #storage: MailboxStorage;
	readonly #live = new Map<number, StoredMessage>();
	readonly #ids = new KnownIds();
	/** Records of settled ids that are stored, or on their way. */
	readonly #settledRecords = new Set<SettledIds>();
	/** What was settled in this turn. */
	#settling: Settlement[] = [];
	#gone = false;

	constructor(pluginId: string, storage: MailboxStorage) {
		this.pluginId = pluginId;
		this.#storage = storage;
	}

	/** Messages that are not settled. */
	get size(): number {
		return this.#live.size;
	}

	get isEmpty(): boolean {
		return this.#live.size === 0 && this.#ids.isEmpty;
	}

	/** Its plugin is no longer registered; nothing is stored any more. */
	get gone(): boolean {
		return this.#gone;
	}

	/** When the oldest message was accepted, in milliseconds since the Unix epoch. */
	get oldest(): number | undefined {
		for (const message of this.#live.values()) return message.stored.acceptTime;
		return undefined;
	}

	/** The first answer to an id; undefined: it is new. Refuses with ID_REUSED. */
	find(source: string, id: string, digest: string): AcceptedMessage | Promise<AcceptedMessage> | undefined {
		const known = this.#ids.get(source, id);
		if (known === undefined) return undefined;
		if (known.digest === digest) return known.answer;
		throw new HubError("ID_REUSED", "the message id was used before with other content", { metadata: { id } });
	}

	nextSequence(): number {
		return ++this.#storage.lastSequence;
	}

	/** SM-1. Stores a message, together with `also`. Its bytes become a part of the record. */
	add(message: StoredMessage, also: readonly KvWrite[], settled: Settled): void {
		const { stored } = message;
		const value = encodeMessage(message, stored, message.bytes!);
		message.bytes = value.subarray(value.byteLength - message.size);
		this.#live.set(stored.sequence, message);
		this.#storage.queue.add([{ key: this.#key(stored), value }, ...also], (error) => {
			if (error !== undefined) this.#live.delete(stored.sequence);
			settled(error);
		});
	}

	/** SM-3. `outcome`: what the sender was told, or the answer that it waits for. */
	know(message: StoredMessage, outcome: KnownId["outcome"]): void {
		const { stored } = message;
		if (stored.known !== undefined) {
			stored.known.outcome = outcome;
			return;
		}
		if (stored.digest === "") return;
		stored.known = this.#known(message, outcome);
		this.#ids.add(stored.known);
	}

	/** The message was not stored after all. */
	forget({ stored }: StoredMessage): void {
		stored.known?.forget();
	}

	/** Stores how often a message was delivered, and when it may be again (milliseconds since the Unix epoch; 0: at once). */
	note(message: StoredMessage, notBefore: number, settled: Settled): void {
		if (this.#gone) {
			settled();
			return;
		}
		message.stored.noted = true;
		const value = encodeAttempts(message.attempt, notBefore);
		this.#storage.queue.add([{ key: `${this.#key(message.stored)}${NOTE_SUFFIX}`, value }], settled);
	}

	/** SM-2. Settles a message, together with `also`. What is settled in one turn is stored as one. */
	finish(message: StoredMessage, also: readonly KvWrite[], settled: Settled): void {
		if (also.length > 0) {
			this.#settle([{ message, settled }], also);
			return;
		}
		this.#settling.push({ message, settled });
		if (this.#settling.length === SETTLED_TOGETHER) this.#settleGathered();
		else if (this.#settling.length === 1) queueMicrotask(() => this.#settleGathered());
	}

	#settleGathered(): void {
		const together = this.#settling;
		this.#settling = [];
		if (together.length > 0) this.#settle(together, []);
	}

	#settle(together: readonly Settlement[], also: readonly KvWrite[]): void {
		if (this.#gone) {
			for (const { settled } of together) settled();
			return;
		}
		const { clock, idWindowMs, queue } = this.#storage;
		const expired = clock.now() - idWindowMs;
		const writes: KvWrite[] = [...also];
		const remembered: KnownId[] = [];
		for (const { message } of together) {
			const { stored } = message;
			const key = this.#key(stored);
			writes.push({ key, delete: true });
			if (stored.noted) writes.push({ key: `${key}${NOTE_SUFFIX}`, delete: true });
			if (stored.known !== undefined && stored.acceptTime > expired) remembered.push(stored.known);
		}
		const ids = this.#settledIds(remembered);
		if (ids !== undefined) writes.push({ key: ids.key, value: encodeSettledIds(remembered) });
		queue.add(writes, (error) => {
			if (error !== undefined) {
				if (ids !== undefined) this.#settledRecords.delete(ids);
			} else if (!this.#gone) {
				this.#settled(together, remembered, ids);
			}
			for (const { settled } of together) settled(error);
		});
	}

	#settled(together: readonly Settlement[], remembered: readonly KnownId[], ids: SettledIds | undefined): void {
		for (const known of remembered) {
			known.settled = ids;
			this.#storage.marks.add(known);
		}
		for (const { message } of together) {
			this.#live.delete(message.stored.sequence);
			if (message.stored.known?.settled === undefined) this.forget(message);
		}
	}

	/** The record that these ids are to be stored in; undefined: there are none. */
	#settledIds(remembered: readonly KnownId[]): SettledIds | undefined {
		const [first] = remembered;
		if (first === undefined) return undefined;
		const key = `${keys.mailboxMessage(this.pluginId, first.sequence)}${SETTLED_SUFFIX}`;
		return this.#recordOf(key, remembered.length);
	}

	#recordOf(key: string, count: number): SettledIds {
		const record = new SettledIds(key, count, () => this.#settledRecords.delete(record));
		this.#settledRecords.add(record);
		return record;
	}

	/** The message in wire form. Undefined where the plugin is gone. */
	read({ stored }: StoredMessage): Uint8Array | undefined {
		const entry = this.#storage.kv.get(this.#key(stored));
		if (entry === undefined) return undefined;
		return decodeRecord(entry.value).message;
	}

	/** Takes over a message that is stored. */
	restore(message: StoredMessage): void {
		const { stored } = message;
		this.#storage.lastSequence = Math.max(this.#storage.lastSequence, stored.sequence);
		this.know(message, "queued");
		this.#live.set(stored.sequence, message);
	}

	/** Takes over the ids of settled messages, which are still to be given to the marks. */
	restoreSettled(key: string, ids: readonly SettledId[]): readonly KnownId[] {
		const settled = this.#recordOf(key, ids.length);
		return ids.map(({ source, id, digest, acceptTimeMs, sequence: bigSequence }) => {
			const sequence = Number(bigSequence);
			const acceptTime = Number(acceptTimeMs);
			const fields = { source, id, digest, sequence, acceptTime, outcome: "queued" } as const;
			const known = new KnownId(this.#ids, fields);
			known.settled = settled;
			this.#ids.add(known);
			this.#storage.lastSequence = Math.max(this.#storage.lastSequence, sequence);
			return known;
		});
	}

	/** Deletes everything: the plugin is no longer registered. Resolves once that is stored. */
	async purge(): Promise<void> {
		this.#gone = true;
		const doomed: string[] = [];
		for (const { stored } of this.#live.values()) {
			doomed.push(this.#key(stored));
			if (stored.noted) doomed.push(`${this.#key(stored)}${NOTE_SUFFIX}`);
		}
		for (const { key } of this.#settledRecords) doomed.push(key);
		this.#live.clear();
		this.#ids.clear();
		this.#settledRecords.clear();
		for (let from = 0; from < doomed.length; from += DELETES) {
			const writes = doomed.slice(from, from + DELETES).map((key) => ({ key, delete: true as const }));
			await this.#storage.queue.store(writes);
		}
	}

	#known({ source, id, stored }: StoredMessage, outcome: KnownId["outcome"]): KnownId {
		const { digest, sequence, acceptTime } = stored;
		return new KnownId(this.#ids, { source, id, digest, sequence, acceptTime, outcome });
	}

	#key(stored: StoredPlace): string {
		if (stored.key === "") stored.key = keys.mailboxMessage(this.pluginId, stored.sequence);
		return stored.key;
	}
}
