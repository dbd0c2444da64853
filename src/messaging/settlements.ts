import type { CommitQueue } from "../state/commit-queue.ts";
import type { KvWrite } from "../state/kv-store.ts";
import type { BlockCache } from "./block-cache.ts";
import { encodePlaces, joinRecords } from "./block-record.ts";
import type { StoredBlock, StoredMessage } from "./queued-message.ts";

/** A message that is to be settled, and what is stored with that. */
export interface Settlement {
	readonly message: StoredMessage;
	readonly also: readonly KvWrite[];
	/** Told once, later: undefined once it is stored, else why it is not. Must not throw. */
	settled(error?: unknown): void;
}

/** The mailbox that settlements are of. */
export interface SettlingMailbox {
	readonly gone: boolean;
	/** The key of the record of a message's deliveries. */
	noteKey(message: StoredMessage): string;
	/** The record of the ids that are to be known after these are settled; undefined: none is. */
	remember(settling: readonly StoredMessage[]): KvWrite | undefined;
	/** They are settled for good, or (with an error) not; `remember` was called before. */
	settled(settling: readonly StoredMessage[], error: unknown): void;
	/** Nothing of the block is left. */
	emptied(block: StoredBlock): void;
	/** Fewer of its messages are left. */
	shrunk(block: StoredBlock): void;
}

/** Of what is settled in one commit, which may have 1,000 writes and 4 MiB; blocks that are written anew come on top. */
const MAX_WRITES = 900;
const MAX_BYTES = 2 * 1024 * 1024;

/** Writes for a block, and bytes for an id beside its strings and for a block: at most. */
const BLOCK_WRITES = 2;
const RECORD_BYTES = 128;

/** Blocks that are written anew in one commit. */
const REWRITTEN_TOGETHER = 4;

/** The suffix of the record of a block's settled places. */
export const PLACES_SUFFIX = ".s";

/** What one commit settles. */
interface Round {
	together: readonly Settlement[];
	/** Those of them that were not settled before. */
	readonly settling: StoredMessage[];
	readonly rewritten: Rewritten[];
}

interface Rewritten {
	readonly block: StoredBlock;
	readonly survivors: readonly StoredMessage[];
}

/**
 * Settles the messages of one mailbox.
 *
 * - ST-1 One settlement is on its way at a time, and the next has everything that came meanwhile: so each says what is
 *   settled of a block without knowing what becomes of another.
 * - ST-2 What is stored with the settlement of a message is stored with it or not at all.
 * - ST-3 A block is deleted in the commit that settles the last of its messages; until then a small record says which are.
 * - ST-4 A block is written anew in a commit of the same kind, so that nothing of it is settled meanwhile.
 */
export class Settlements {
	readonly #mailbox: SettlingMailbox;
	readonly #queue: CommitQueue;
	readonly #cache: BlockCache;
	#waiting: Settlement[] = [];
	#sparse: StoredBlock[] = [];
	/** Tells the queue of what comes to the next one. */
	#grow: ((bytes: number) => void) | undefined;

	constructor(mailbox: SettlingMailbox, queue: CommitQueue, cache: BlockCache) {
		this.#mailbox = mailbox;
		this.#queue = queue;
		this.#cache = cache;
	}

	/** ST-2. */
	add(settlement: Settlement): void {
		this.#waiting.push(settlement);
		const grow = this.#begin();
		for (const write of settlement.also) if (write.value !== undefined) grow(write.value.byteLength);
	}

	/** ST-4. */
	rewrite(block: StoredBlock): void {
		this.#sparse.push(block);
		this.#begin();
	}

	#begin(): (bytes: number) => void {
		if (this.#grow !== undefined) return this.#grow;
		const round: Round = { together: [], settling: [], rewritten: [] };
		const seal = () => this.#seal(round);
		this.#grow = this.#queue.addOpen(seal, (error) => this.#stored(round, error));
		return this.#grow;
	}

	#seal(round: Round): readonly KvWrite[] {
		round.together = this.#take();
		if (this.#mailbox.gone) {
			this.#sparse = [];
			return [];
		}
		const writes: KvWrite[] = [];
		this.#settleInto(writes, round);
		this.#rewriteInto(writes, round);
		return writes;
	}

	#take(): readonly Settlement[] {
		const blocks = new Set<StoredBlock | undefined>();
		let writes = 0;
		let bytes = 0;
		let taken = 0;
		for (const settlement of this.#waiting) {
			const { block, noted } = settlement.message.stored;
			writes += settlement.also.length + (noted ? 1 : 0) + (blocks.has(block) ? 0 : BLOCK_WRITES);
			bytes += bytesOf(settlement) + (blocks.has(block) ? 0 : RECORD_BYTES);
			if (taken > 0 && (writes > MAX_WRITES || bytes > MAX_BYTES)) break;
			blocks.add(block);
			taken++;
		}
		if (taken < this.#waiting.length) return this.#waiting.splice(0, taken);
		const all = this.#waiting;
		this.#waiting = [];
		return all;
	}

	/** ST-3. */
	#settleInto(writes: KvWrite[], { together, settling }: Round): void {
		const blocks = new Set<StoredBlock>();
		for (const { message, also } of together) {
			const { block, noted } = message.stored;
			for (const write of also) writes.push(write);
			if (!block?.settle(message)) continue;
			settling.push(message);
			blocks.add(block);
			if (noted) writes.push({ key: this.#mailbox.noteKey(message), delete: true });
		}
		for (const block of blocks) {
			const places = `${block.key}${PLACES_SUFFIX}`;
			if (block.left === 0) {
				writes.push({ key: block.key, delete: true });
				if (block.hasPlaces) writes.push({ key: places, delete: true });
			} else {
				block.hasPlaces = true;
				writes.push({ key: places, value: encodePlaces(block.places()) });
			}
		}
		const ids = this.#mailbox.remember(settling);
		if (ids !== undefined) writes.push(ids);
	}

	#rewriteInto(writes: KvWrite[], { rewritten }: Round): void {
		for (const block of this.#sparse.splice(0, REWRITTEN_TOGETHER)) {
			const survivors = block.survivors();
			const read = survivors.length === 0 ? undefined : this.#cache.read(block);
			if (read === undefined) continue;
			const records = survivors.flatMap(({ stored }) => read.messages.get(stored.sequence)?.record ?? []);
			// Never less than there is: what cannot be read may still be delivered from memory.
			if (records.length < survivors.length) continue;
			// In one commit the later write of a key wins: what this settles of the block is not among the survivors.
			writes.push({ key: block.key, value: joinRecords(records) });
			writes.push({ key: `${block.key}${PLACES_SUFFIX}`, delete: true });
			rewritten.push({ block, survivors });
		}
	}

	#stored({ together, settling, rewritten }: Round, error: unknown): void {
		const mailbox = this.#mailbox;
		if (!mailbox.gone) {
			this.#apply(settling, error);
			for (const { block, survivors } of rewritten) {
				if (error === undefined) this.#replace(block, survivors);
				else mailbox.shrunk(block);
			}
			mailbox.settled(settling, error);
		}
		for (const settlement of together) settlement.settled(error);
		this.#grow = undefined;
		if (this.#waiting.length > 0 || this.#sparse.length > 0) this.#begin();
	}

	#apply(settling: readonly StoredMessage[], error: unknown): void {
		const blocks = new Set<StoredBlock>();
		for (const message of settling) {
			const { block } = message.stored;
			if (block === undefined) continue;
			if (error !== undefined) {
				block.unsettle(message);
				continue;
			}
			block.drop(message);
			message.stored.block = undefined;
			blocks.add(block);
		}
		for (const block of blocks) {
			if (block.left === 0) this.#mailbox.emptied(block);
			else this.#mailbox.shrunk(block);
		}
	}

	#replace(block: StoredBlock, survivors: readonly StoredMessage[]): void {
		this.#cache.drop(block);
		block.replace(survivors);
	}
}

function bytesOf({ message, also }: Settlement): number {
	const { id, source, stored } = message;
	let bytes = stored.ids === undefined ? 0 : RECORD_BYTES + 3 * (id.length + source.length);
	for (const write of also) if (write.value !== undefined) bytes += write.value.byteLength;
	return bytes;
}
