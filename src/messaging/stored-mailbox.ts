import type { SettledId } from "#gen/qirvo/hub/storage/v1/records_pb.js";
import type { Clock } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import type { CommitQueue } from "../state/commit-queue.ts";
import { keys } from "../state/key-layout.ts";
import type { KvStore, KvWrite } from "../state/kv-store.ts";
import type { AcceptanceListener } from "./accepted-message.ts";
import type { BlockCache } from "./block-cache.ts";
import { IdBatch, type RememberedId } from "./id-batch.ts";
import type { IdMarks } from "./id-marks.ts";
import { KnownIds, type SentId } from "./known-ids.ts";
import { encodeAttempts } from "./mailbox-record.ts";
import { MessageBlock } from "./message-block.ts";
import { type MessageOwner, OpenBlock } from "./open-block.ts";
import type { StoredBlock, StoredMessage, StoredPlace } from "./queued-message.ts";
import type { IdHandle, SenderIds } from "./sender-ids.ts";
import { encodeSettledIds, SettledIds } from "./settled-ids.ts";
import { PLACES_SUFFIX, type Settlement, Settlements, type SettlingMailbox } from "./settlements.ts";
import type { SparseBlocks } from "./sparse-blocks.ts";
import type { ByteRange, StampedMessage } from "./stamped-message.ts";

/** What the mailboxes of one hub share. */
export interface MailboxStorage {
	readonly kv: KvStore;
	readonly queue: CommitQueue;
	readonly clock: Clock;
	readonly marks: IdMarks;
	readonly cache: BlockCache;
	readonly sparse: SparseBlocks;
	/** How long ids are remembered after a message was accepted, in milliseconds. */
	readonly idWindowMs: number;
	/** Of the hashes that tell ids. */
	readonly idSeed: number;
	/** The last one that was given out. Of all mailboxes, so that none comes again while marks of a forgotten one are left. */
	lastSequence: number;
}

/** What is stored about the deliveries of a message, behind what would be its key. */
export const NOTE_SUFFIX = ".d";

/** The ids of messages that were settled together, behind what would be the key of the first of them. */
export const SETTLED_SUFFIX = ".m";

const DELETES = 500;

/**
 * The stored side of one mailbox. This process is its only writer.
 *
 * - SM-1 What is accepted while a round of commits is on its way is one record, or a few: blocks. `note` writes a small record
 *   about one message.
 * - SM-2 What is settled meanwhile is stored by deleting the blocks of which nothing is left, by a small record for each of
 *   the others, and by one with the ids among theirs that their senders chose lately.
 * - SM-3 An id is known from the moment its message is taken, for the window after that or as long as it is not settled,
 *   whichever is longer; unless there are more ids than the hub keeps.
 */
export class StoredMailbox implements SettlingMailbox {
	readonly pluginId: string;
	readonly #storage: MailboxStorage;
	/** In the order in which their first messages were accepted. */
	readonly #blocks = new Set<StoredBlock>();
	readonly #ids: KnownIds;
	readonly #settlements: Settlements;
	/** Records of settled ids that are stored, or on their way. */
	readonly #settledRecords = new Set<SettledIds>();
	/** Where the ids go that are being settled. */
	#remembered: { readonly messages: readonly StoredMessage[]; readonly record: SettledIds } | undefined;
	#open: { readonly open: OpenBlock; readonly grow: (bytes: number) => void } | undefined;
	/** Bytes of the block before: the next one probably has as many. */
	#lastBytes = 0;
	#size = 0;
	#gone = false;

	constructor(pluginId: string, storage: MailboxStorage) {
		this.pluginId = pluginId;
		this.#storage = storage;
		this.#ids = new KnownIds(storage.idSeed);
		this.#settlements = new Settlements(this, storage.queue, storage.cache);
	}

	/** Messages that are not settled. */
	get size(): number {
		return this.#size;
	}

	get isEmpty(): boolean {
		return this.#size === 0 && this.#ids.isEmpty;
	}

	/** Its plugin is no longer registered; nothing is stored any more. */
	get gone(): boolean {
		return this.#gone;
	}

	/** When the oldest message was accepted, in milliseconds since the Unix epoch. */
	get oldest(): number | undefined {
		for (const block of this.#blocks) for (const message of block.messages()) return message.stored.acceptTime;
		return undefined;
	}

	/** Whether an id is known: then `told` is told what its sender was. Refuses with ID_REUSED. */
	repeat(source: string, id: string, digest: string, told: AcceptanceListener): boolean {
		const ids = this.#ids.of(source);
		const cell = ids?.find(id) ?? -1;
		if (ids === undefined || cell < 0) return false;
		if (!ids.isSame(cell, digest)) throw idReused(id);
		ids.repeat(cell, id, told);
		return true;
	}

	/** Refuses with ID_REUSED where the id is known as that of another message. */
	requireUnused(source: string, id: string, digest: string): void {
		const ids = this.#ids.of(source);
		const cell = ids?.find(id) ?? -1;
		if (ids !== undefined && cell >= 0 && !ids.isSame(cell, digest)) throw idReused(id);
	}

	nextSequence(): number {
		return ++this.#storage.lastSequence;
	}

	/** SM-1. Stores a message together with `also`. `owner` is told later. SM-3: an id must be new. */
	add(message: StoredMessage, content: StampedMessage, also: readonly KvWrite[], owner: MessageOwner): void {
		const { stored } = message;
		if (stored.digest !== "") {
			const ids = this.#ids.toAdd(message.source);
			know(stored, ids, ids.add(idOf(message), false));
		}
		this.#size++;
		if (also.length > 0) {
			const open = this.#newBlock(message, owner, content.size);
			open.add(message, content);
			this.#storage.queue.add([open.seal(), ...also], (error) => this.#added(open, error));
			return;
		}
		if (this.#open?.open.owner !== owner || !this.#open.open.block.hasRoom(message.size)) {
			this.#open = this.#openBlock(message, owner);
		}
		this.#open.grow(this.#open.open.add(message, content));
	}

	#openBlock(first: StoredMessage, owner: MessageOwner) {
		const open = this.#newBlock(first, owner, this.#lastBytes);
		const seal = () => {
			if (this.#open?.open === open) this.#open = undefined;
			const write = open.seal();
			this.#lastBytes = open.value.byteLength;
			return [write];
		};
		return { open, grow: this.#storage.queue.addOpen(seal, (error) => this.#added(open, error)) };
	}

	#newBlock(first: StoredMessage, owner: MessageOwner, bytes: number): OpenBlock {
		const block = new MessageBlock<StoredMessage>(this.pluginId, first.stored.sequence);
		this.#blocks.add(block);
		return new OpenBlock(block, owner, bytes);
	}

	#added({ block, messages, owner, value }: OpenBlock, error: unknown): void {
		if (error === undefined) {
			if (!this.#gone) this.#storage.cache.keep(block, value);
			for (const message of messages) {
				const disposition = owner.stored(message);
				message.stored.ids?.answer(message.stored, message.id, disposition);
			}
			return;
		}
		if (!this.#gone) {
			this.#blocks.delete(block);
			this.#size -= messages.length;
		}
		for (const message of messages) {
			const { ids } = message.stored;
			message.stored.ids = undefined;
			const repeats = ids?.refuse(message.stored) ?? [];
			owner.notStored(message, error);
			for (const told of repeats) told(undefined, error);
		}
	}

	/** Stores how often a message was delivered, and when it may be again (milliseconds since the Unix epoch; 0: at once). */
	note(message: StoredMessage, notBefore: number, settled: (error?: unknown) => void): void {
		if (this.#gone) {
			settled();
			return;
		}
		message.stored.noted = true;
		const value = encodeAttempts(message.attempt, notBefore);
		this.#storage.queue.add([{ key: this.noteKey(message), value }], settled);
	}

	noteKey(message: StoredMessage): string {
		return `${this.#key(message)}${NOTE_SUFFIX}`;
	}

	/** SM-2. It is told later, but by a mailbox that is gone. */
	finish(settlement: Settlement): void {
		if (this.#gone) settlement.settled();
		else this.#settlements.add(settlement);
	}

	remember(settling: readonly StoredMessage[]): KvWrite | undefined {
		const { clock, idWindowMs } = this.#storage;
		const expired = clock.now() - idWindowMs;
		const messages = settling.filter(({ stored }) => stored.ids !== undefined && stored.acceptTime > expired);
		const [first] = messages;
		this.#remembered = undefined;
		if (first === undefined) return undefined;
		const key = `${this.#key(first)}${SETTLED_SUFFIX}`;
		this.#remembered = { messages, record: this.#recordOf(key, messages.length) };
		return { key, value: encodeSettledIds(messages) };
	}

	settled(settling: readonly StoredMessage[], error: unknown): void {
		const remembered = this.#remembered;
		this.#remembered = undefined;
		if (error !== undefined) {
			if (remembered !== undefined) this.#settledRecords.delete(remembered.record);
			return;
		}
		if (remembered !== undefined) this.#mark(remembered.messages, remembered.record);
		this.#size -= settling.length;
		// Those that are not to be remembered.
		for (const { stored } of settling) {
			stored.ids?.delete(stored);
			stored.ids = undefined;
		}
	}

	/** Their ids go with their record from now on. */
	#mark(messages: readonly StoredMessage[], record: SettledIds): void {
		const bySender = new Map<SenderIds, RememberedId[]>();
		for (const { stored } of messages) {
			const { ids } = stored;
			if (ids === undefined) continue;
			stored.ids = undefined;
			gather(bySender, ids, stored);
		}
		for (const [ids, remembered] of bySender) this.#storage.marks.add(new IdBatch(ids, remembered, record));
	}

	emptied(block: StoredBlock): void {
		this.#blocks.delete(block);
		this.#storage.cache.drop(block);
		this.#storage.sparse.forget(block);
	}

	shrunk(block: StoredBlock): void {
		this.#storage.sparse.watch(block, (sparse) => {
			if (!this.#gone) this.#settlements.rewrite(sparse);
		});
	}

	#recordOf(key: string, count: number): SettledIds {
		const record = new SettledIds(key, count, () => this.#settledRecords.delete(record));
		this.#settledRecords.add(record);
		return record;
	}

	/** The message in wire form. Undefined where the plugin is gone. */
	read(message: StoredMessage): Uint8Array | undefined {
		const range = this.rangeOf(message);
		return range?.bytes.subarray(range.start, range.end);
	}

	/** The same as a part of what its block has. */
	rangeOf({ stored, size }: StoredMessage): ByteRange | undefined {
		const { block, start, sequence } = stored;
		if (block === undefined || this.#gone) return undefined;
		if (block.value !== undefined) return { bytes: block.value, start, end: start + size };
		const bytes = this.#storage.cache.read(block)?.messages.get(sequence)?.message;
		return bytes && { bytes, start: 0, end: size };
	}

	/** A message is on its way to its recipient for the first time since it was stored. */
	handedOut({ stored }: StoredMessage): void {
		if (stored.block !== undefined) this.#storage.cache.handedOut(stored.block);
	}

	/** Takes over a block that is stored; `places` are its messages, or the bytes of those that are settled. */
	restore(sequence: number, places: readonly (StoredMessage | number)[], hasPlaces: boolean): void {
		const block = new MessageBlock<StoredMessage>(this.pluginId, sequence);
		block.hasPlaces = hasPlaces;
		for (const place of places) {
			if (typeof place === "number") {
				block.addSettled(place);
				continue;
			}
			block.add(place);
			this.#size++;
			if (place.stored.digest === "") continue;
			const { ids, handle } = this.#ids.restore(idOf(place));
			know(place.stored, ids, handle);
		}
		block.seal();
		this.#blocks.add(block);
		this.shrunk(block);
	}

	/** Takes over the ids of settled messages, which are still to be given to the marks. */
	restoreSettled(key: string, settled: readonly SettledId[]): readonly IdBatch[] {
		const record = this.#recordOf(key, settled.length);
		const bySender = new Map<SenderIds, RememberedId[]>();
		for (const { source, id, digest, acceptTimeMs, sequence: bigSequence } of settled) {
			const sequence = Number(bigSequence);
			const { ids, handle } = this.#ids.restore({ source, id, digest, sequence });
			this.#storage.lastSequence = Math.max(this.#storage.lastSequence, sequence);
			gather(bySender, ids, { ...handle, acceptTime: Number(acceptTimeMs) });
		}
		return [...bySender].map(([ids, remembered]) => new IdBatch(ids, remembered, record));
	}

	/** Deletes everything: the plugin is no longer registered. Resolves once that is stored. */
	async purge(): Promise<void> {
		this.#gone = true;
		const doomed: string[] = [];
		for (const block of this.#blocks) {
			doomed.push(block.key);
			if (block.hasPlaces) doomed.push(`${block.key}${PLACES_SUFFIX}`);
			for (const message of block.messages()) if (message.stored.noted) doomed.push(this.noteKey(message));
			this.#storage.cache.drop(block);
			this.#storage.sparse.forget(block);
		}
		for (const { key } of this.#settledRecords) doomed.push(key);
		this.#size = 0;
		this.#blocks.clear();
		this.#ids.clear();
		this.#settledRecords.clear();
		for (let from = 0; from < doomed.length; from += DELETES) {
			const writes = doomed.slice(from, from + DELETES).map((key) => ({ key, delete: true as const }));
			await this.#storage.queue.store(writes);
		}
	}

	#key({ stored }: StoredMessage): string {
		return keys.mailboxMessage(this.pluginId, stored.sequence);
	}
}

function gather(bySender: Map<SenderIds, RememberedId[]>, ids: SenderIds, remembered: RememberedId): void {
	const known = bySender.get(ids);
	if (known === undefined) bySender.set(ids, [remembered]);
	else known.push(remembered);
}

/** Keeps where the id of a message is known. */
function know(stored: StoredPlace, ids: SenderIds, { idLow, idHigh }: IdHandle): void {
	stored.ids = ids;
	stored.idLow = idLow;
	stored.idHigh = idHigh;
}

function idOf({ source, id, stored }: StoredMessage): SentId {
	const { digest, sequence } = stored;
	return { source, id, digest, sequence };
}

function idReused(id: string): HubError {
	return new HubError("ID_REUSED", "the message id was used before with other content", { metadata: { id } });
}
