import type { MailboxRecord, SettledId } from "#gen/qirvo/hub/storage/v1/records_pb.js";
import type { KvEntry } from "../state/kv-store.ts";
import { decodeBlock, decodePlaces } from "./block-record.ts";
import type { IdBatch } from "./id-batch.ts";
import { decodeAttempts, messageOf } from "./mailbox-record.ts";
import type { StoredMessage } from "./queued-message.ts";
import { decodeSettledIds } from "./settled-ids.ts";
import { PLACES_SUFFIX } from "./settlements.ts";
import { type MailboxStorage, NOTE_SUFFIX, SETTLED_SUFFIX, type StoredMailbox } from "./stored-mailbox.ts";

/** A message that waited when the hub stopped. */
export interface RestoredMessage {
	readonly message: StoredMessage;
	/** Not delivered before, in milliseconds since the Unix epoch, because a delivery failed; 0: at once. */
	readonly notBefore: number;
}

/** What a block has, without the payloads. */
type Bare = Omit<MailboxRecord, "message"> & { readonly size: number };

/** What is stored of one mailbox, gathered at the start of the hub: the records of a block and its messages lie apart. */
export class MailboxRecords {
	readonly pluginId: string;
	readonly #blocks: { readonly key: string; readonly records: readonly Bare[] }[] = [];
	readonly #places = new Map<string, Uint8Array>();
	readonly #notes = new Map<number, Uint8Array>();
	readonly #settled: { readonly key: string; readonly ids: readonly SettledId[] }[] = [];

	constructor(pluginId: string) {
		this.pluginId = pluginId;
	}

	/** Throws on what is not a record. */
	add({ key, value }: KvEntry): void {
		if (key.endsWith(NOTE_SUFFIX)) this.#notes.set(sequenceIn(key), value);
		else if (key.endsWith(PLACES_SUFFIX)) this.#places.set(key.slice(0, -PLACES_SUFFIX.length), value);
		else if (key.endsWith(SETTLED_SUFFIX)) this.#settled.push({ key, ids: decodeSettledIds(value) });
		else this.#blocks.push({ key, records: decodeBlock(value).map(bare) });
	}

	/** Gives the blocks to the mailbox. Returns what is not settled, in the order of its acceptance. */
	restore(mailbox: StoredMailbox, storage: MailboxStorage): readonly RestoredMessage[] {
		const restored: RestoredMessage[] = [];
		for (const { key, records } of this.#blocks) {
			const settledPlaces = this.#places.get(key);
			const isSettled = decodePlaces(settledPlaces);
			const places = records.map((record, place) => {
				const sequence = Number(record.sequence);
				storage.lastSequence = Math.max(storage.lastSequence, sequence);
				if (isSettled(place)) return record.size;
				const { attempts, notBefore } = decodeAttempts(this.#notes.get(sequence));
				const message = messageOf(record, attempts, storage.clock);
				restored.push({ message, notBefore });
				return message;
			});
			mailbox.restore(sequenceIn(key), places, settledPlaces !== undefined);
		}
		// A block that was written anew keeps its key, so that blocks of one mailbox do not lie side by side.
		return restored.sort((a, b) => a.message.stored.sequence - b.message.stored.sequence);
	}

	/** Gives the ids of settled messages to the mailbox; they are still to be given to the marks. */
	restoreSettled(mailbox: StoredMailbox): readonly IdBatch[] {
		return this.#settled.flatMap(({ key, ids }) => mailbox.restoreSettled(key, ids));
	}
}

function bare({ message, ...record }: MailboxRecord): Bare {
	return { ...record, size: message.byteLength };
}

function sequenceIn(key: string): number {
	return Number.parseInt(key.slice(key.lastIndexOf("/") + 1), 16);
}
