import { hashText } from "../state/text-hash.ts";
import type { AcceptanceListener, MessageDisposition } from "./accepted-message.ts";

const FIRST_CELLS = 16;

/** One cell in so many has an id at least, so that a sender that once had many does not keep their room. */
const MAX_CELLS_PER_ID = 8;

/** Numbers of a cell, which together are half a line of the processor's cache: finding one costs one look at the memory. */
const WORDS = 8;

// Halves of the hash of the id, of that of the digest, and of the sequence.
const LOW = 0;
const HIGH = 1;
const CONTENT_LOW = 2;
const CONTENT_HIGH = 3;
const SEQUENCE_LOW = 4;
const SEQUENCE_HIGH = 5;
const OUTCOME = 6;

/** What the sender of an id was told; 0 where the cell is free. */
const WAITING = 1;
const DELIVERED = 2;
const QUEUED = 3;

const TWO_32 = 2 ** 32;

const NOBODY: readonly AcceptanceListener[] = [];

/** An id as it is kept. */
export interface IdEntry {
	readonly id: string;
	/** Tells a repeat from another message of the same id. */
	readonly digest: string;
	/** Orders the messages of one mailbox, from 1 on. */
	readonly sequence: number;
}

/** What an id is found by once it is known: halves of its hash, as signed numbers, and its message. */
export interface IdHandle {
	readonly idLow: number;
	readonly idHigh: number;
	readonly sequence: number;
}

/**
 * The ids that one sender has used in one mailbox. Because many are remembered, none is an object: an id costs about 100 bytes
 * in typed arrays, an open-addressing table, and its text is not kept. It is told by 64 bits of a hash that nobody outside can
 * foresee, and tables are apart by sender, so that no plugin can make the id of another look used.
 */
export class SenderIds {
	readonly source: string;
	readonly #seed: number;
	readonly #onEmpty: (ids: SenderIds) => void;
	/** Cell by cell; how many there are is a power of two. */
	#cells = new Int32Array(FIRST_CELLS * WORDS);
	#count = FIRST_CELLS;
	#size = 0;
	/** The id that was hashed last, and the halves of its hash. */
	#hashed: string | undefined;
	#low = 0;
	#high = 0;
	/** Who sent an id again before there was an answer, by sequence. */
	readonly #waiting = new Map<number, AcceptanceListener[]>();

	/** `seed`: what no plugin can foresee. `onEmpty` runs when the last id is deleted. */
	constructor(source: string, seed: number, onEmpty: (ids: SenderIds) => void) {
		this.source = source;
		this.#seed = seed;
		this.#onEmpty = onEmpty;
	}

	/** Where an id stands, until the next one comes or goes; -1: it is new. */
	find(id: string): number {
		this.#hash(id);
		return this.#cellOf(this.#low, this.#high, undefined);
	}

	/** Whether the message of the id that stands there was the same. */
	isSame(cell: number, digest: string): boolean {
		const { high, low } = hashText(digest, this.#seed);
		return (
			this.#cells[cell * WORDS + CONTENT_LOW] === (low | 0) && this.#cells[cell * WORDS + CONTENT_HIGH] === (high | 0)
		);
	}

	sequence(cell: number): number {
		const at = cell * WORDS;
		return (this.#cells[at + SEQUENCE_HIGH]! >>> 0) * TWO_32 + (this.#cells[at + SEQUENCE_LOW]! >>> 0);
	}

	/** The handle of an id, whether it is known or not. */
	handleOf(id: string, sequence: number): IdHandle {
		this.#hash(id);
		return { idLow: this.#low, idHigh: this.#high, sequence };
	}

	/** Takes in a new id. Its sender waits for an answer, unless it had one (`isAnswered`). */
	add({ id, digest, sequence }: IdEntry, isAnswered: boolean): IdHandle {
		if ((this.#size + 1) * 2 > this.#count) this.#resize(this.#count * 2);
		const handle = this.handleOf(id, sequence);
		const content = hashText(digest, this.#seed);
		const at = this.#freeCell(handle.idLow) * WORDS;
		const cells = this.#cells;
		cells[at + LOW] = handle.idLow;
		cells[at + HIGH] = handle.idHigh;
		cells[at + CONTENT_LOW] = content.low;
		cells[at + CONTENT_HIGH] = content.high;
		cells[at + SEQUENCE_LOW] = sequence;
		cells[at + SEQUENCE_HIGH] = sequence / TWO_32;
		cells[at + OUTCOME] = isAnswered ? QUEUED : WAITING;
		this.#size++;
		return handle;
	}

	/** Tells the first answer to the id that stands there and is sent again, as soon as there is one. */
	repeat(cell: number, id: string, told: AcceptanceListener): void {
		const outcome = this.#cells[cell * WORDS + OUTCOME];
		if (outcome !== WAITING) {
			told({ id, disposition: outcome === DELIVERED ? "delivered" : "queued", duplicate: true });
			return;
		}
		const sequence = this.sequence(cell);
		const waiting = this.#waiting.get(sequence);
		if (waiting === undefined) this.#waiting.set(sequence, [told]);
		else waiting.push(told);
	}

	/** The message is accepted. */
	answer(handle: IdHandle, id: string, disposition: MessageDisposition): void {
		const cell = this.#cellOf(handle.idLow, handle.idHigh, handle.sequence);
		if (cell >= 0) this.#cells[cell * WORDS + OUTCOME] = disposition === "delivered" ? DELIVERED : QUEUED;
		for (const told of this.#whoWaits(handle)) told({ id, disposition, duplicate: true });
	}

	/** The message is not accepted, and its id is new again. Gives those who are still to be told so. */
	refuse(handle: IdHandle): readonly AcceptanceListener[] {
		this.delete(handle);
		return this.#whoWaits(handle);
	}

	/** Harmless where another message has the id since. */
	delete({ idLow, idHigh, sequence }: IdHandle): void {
		const cell = this.#cellOf(idLow, idHigh, sequence);
		if (cell < 0) return;
		this.#free(cell);
		this.#size--;
		if (this.#size === 0) this.#onEmpty(this);
		else if (this.#count > FIRST_CELLS && this.#size * MAX_CELLS_PER_ID < this.#count) this.#resize(this.#count / 2);
	}

	/** An id that is new is looked for and then added: it is hashed once. */
	#hash(id: string): void {
		if (id === this.#hashed) return;
		const { high, low } = hashText(id, this.#seed);
		this.#hashed = id;
		this.#low = low | 0;
		this.#high = high | 0;
	}

	#whoWaits({ sequence }: IdHandle): readonly AcceptanceListener[] {
		if (this.#waiting.size === 0) return NOBODY;
		const waiting = this.#waiting.get(sequence) ?? NOBODY;
		this.#waiting.delete(sequence);
		return waiting;
	}

	/** `sequence` undefined: whatever message has the id. */
	#cellOf(low: number, high: number, sequence: number | undefined): number {
		const cells = this.#cells;
		const mask = this.#count - 1;
		for (let cell = low & mask; cells[cell * WORDS + OUTCOME] !== 0; cell = (cell + 1) & mask) {
			if (cells[cell * WORDS + LOW] !== low || cells[cell * WORDS + HIGH] !== high) continue;
			if (sequence === undefined || this.sequence(cell) === sequence) return cell;
		}
		return -1;
	}

	#freeCell(low: number): number {
		const mask = this.#count - 1;
		let cell = low & mask;
		while (this.#cells[cell * WORDS + OUTCOME] !== 0) cell = (cell + 1) & mask;
		return cell;
	}

	/** Frees a cell and moves later ones of the same run back, so that no search stops short. */
	#free(cell: number): void {
		const cells = this.#cells;
		const mask = this.#count - 1;
		let hole = cell;
		for (let at = (hole + 1) & mask; cells[at * WORDS + OUTCOME] !== 0; at = (at + 1) & mask) {
			const home = cells[at * WORDS + LOW]! & mask;
			if (((at - home) & mask) < ((at - hole) & mask)) continue;
			for (let word = 0; word < WORDS; word++) cells[hole * WORDS + word] = cells[at * WORDS + word]!;
			hole = at;
		}
		cells[hole * WORDS + OUTCOME] = 0;
	}

	#resize(count: number): void {
		const cells = this.#cells;
		this.#cells = new Int32Array(count * WORDS);
		this.#count = count;
		for (let from = 0; from < cells.length; from += WORDS) {
			if (cells[from + OUTCOME] === 0) continue;
			const to = this.#freeCell(cells[from + LOW]!) * WORDS;
			for (let word = 0; word < WORDS; word++) this.#cells[to + word] = cells[from + word]!;
		}
	}
}
