import type { Clock } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import type { CommitQueue } from "../state/commit-queue.ts";
import { keys } from "../state/key-layout.ts";
import type { KvStore, KvWrite } from "../state/kv-store.ts";
import type { AcceptedMessage } from "./accepted-message.ts";
import type { IdMarks } from "./id-marks.ts";
import { KnownId, KnownIds } from "./known-ids.ts";
import { decodeRecord, encodeAttempts, encodeMark, encodeMessage } from "./mailbox-record.ts";
import type { QueuedMessage, StoredPlace } from "./queued-message.ts";

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

const DELETES = 500;

/**
 * The stored side of one mailbox. This process is its only writer.
 *
 * - SM-1 A message is one record, written once; `note` writes a small one beside it.
 * - SM-2 Settling a message deletes its record, or, where its sender chose the id lately, rewrites it to a mark.
 * - SM-3 An id is known from the moment its message is taken, for the window after that or as long as it is not settled,
 *   whichever is longer; unless there are more ids than the hub keeps.
 */
export class StoredMailbox {
	readonly pluginId: string;
	readonly #storage: MailboxStorage;
	readonly #live = new Map<number, StoredMessage>();
	readonly #ids: KnownIds;
	#gone = false;

	constructor(pluginId: string, storage: MailboxStorage) {
		this.pluginId = pluginId;
		this.#storage = storage;
		this.#ids = new KnownIds(pluginId);
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
		this.#storage.queue.add([{ key: `${this.#key(message.stored)}.d`, value }], settled);
	}

	/** SM-2. Settles a message, together with `also`. */
	finish(message: StoredMessage, also: readonly KvWrite[], settled: Settled): void {
		if (this.#gone) {
			settled();
			return;
		}
		const { clock, idWindowMs, marks, queue } = this.#storage;
		const { stored } = message;
		const key = this.#key(stored);
		const isMarked = stored.digest !== "" && stored.acceptTime + idWindowMs > clock.now();
		const writes: KvWrite[] = [isMarked ? { key, value: encodeMark(message, stored) } : { key, delete: true }, ...also];
		if (stored.noted) writes.push({ key: `${key}.d`, delete: true });
		queue.add(writes, (error) => {
			if (error === undefined && !this.#gone) {
				this.#live.delete(stored.sequence);
				if (isMarked) marks.add(this.#mark(message));
				else this.forget(message);
			}
			settled(error);
		});
	}

	/** The message in wire form. Undefined where the plugin is gone. */
	read({ stored }: StoredMessage): Uint8Array | undefined {
		const entry = this.#storage.kv.get(this.#key(stored));
		if (entry === undefined) return undefined;
		const record = decodeRecord(entry.value);
		return record.done ? undefined : record.message;
	}

	/** Takes over what is stored; `isSettled`: only its id is to be known. */
	restore(message: StoredMessage, isSettled: boolean): void {
		const { stored } = message;
		this.#storage.lastSequence = Math.max(this.#storage.lastSequence, stored.sequence);
		this.know(message, "queued");
		if (isSettled) this.#storage.marks.add(this.#mark(message));
		else this.#live.set(stored.sequence, message);
	}

	/** Deletes everything: the plugin is no longer registered. Resolves once that is stored. */
	async purge(): Promise<void> {
		this.#gone = true;
		const doomed: string[] = [];
		for (const { stored } of this.#live.values()) {
			doomed.push(this.#key(stored));
			if (stored.noted) doomed.push(`${this.#key(stored)}.d`);
		}
		for (const { sequence, key } of this.#ids.all()) {
			if (!this.#live.has(sequence)) doomed.push(key);
		}
		this.#live.clear();
		this.#ids.clear();
		for (let from = 0; from < doomed.length; from += DELETES) {
			const writes = doomed.slice(from, from + DELETES).map((key) => ({ key, delete: true as const }));
			await this.#storage.queue.store(writes);
		}
	}

	/** Keeps nothing of the message but its names. */
	#mark(message: StoredMessage): KnownId {
		return message.stored.known ?? this.#known(message, "queued");
	}

	#known({ source, id, stored }: StoredMessage, outcome: KnownId["outcome"]): KnownId {
		const { digest, sequence, acceptTime } = stored;
		const until = acceptTime + this.#storage.idWindowMs;
		return new KnownId(this.#ids, { source, id, digest, sequence, until, outcome });
	}

	#key({ sequence }: StoredPlace): string {
		return keys.mailboxMessage(this.pluginId, sequence);
	}
}
