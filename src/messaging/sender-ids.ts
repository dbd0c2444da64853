import { hashText } from "../state/text-hash.ts";
import type { AcceptanceListener, MessageDisposition } from "./accepted-message.ts";

const FIRST_CELLS = 16;

/** One cell in so many has an id at least, so that a sender that once had many does not keep their room. */
const MAX_CELLS_PER_ID = 8;

/** Numbers of the hashes in a cell: two of the id, two of the digest. */
const HASHES = 4;

/** What the sender of an id was told. */
const WAITING = 1;
const DELIVERED = 2;
const QUEUED = 3;

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
 * The ids that one sender has used in one mailbox. Because many are remembered, none is an object: an id costs about 70 bytes
 * in typed arrays, an open-addressing table, and its text is not kept. It is told by 64 bits of a hash that nobody outside can
 * foresee, and tables are apart by sender, so that no plugin can make the id of another look used.
 */
export class SenderIds {
	readonly source: string;
	readonly #seed: number;
	readonly #onEmpty: (ids: SenderIds) => void;
	/** By cell; how many there are is a power of two. */
	#hashes = new Int32Array(FIRST_CELLS * HASHES);
	/** 0 where the cell is free. */
	#sequence = new Float64Array(FIRST_CELLS);
	#outcome = new Uint8Array(FIRST_CELLS);
	#size = 0;
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
		const { high, low } = hashText(id, this.#seed);
		return this.#cellOf(low | 0, high | 0, undefined);
	}

	/** Whether the message of the id that stands there was the same. */
	isSame(cell: number, digest: string): boolean {
		const { high, low } = hashText(digest, this.#seed);
		return this.#hashes[cell * HASHES + 2] === (low | 0) && this.#hashes[cell * HASHES + 3] === (high | 0);
	}

	sequence(cell: number): number {
		return this.#sequence[cell]!;
	}

	/** The handle of an id, whether it is known or not. */
	handleOf(id: string, sequence: number): IdHandle {
		const { high, low } = hashText(id, this.#seed);
		return { idLow: low | 0, idHigh: high | 0, sequence };
	}

	/** Takes in a new id. Its sender waits for an answer, unless it had one (`isAnswered`). */
	add({ id, digest, sequence }: IdEntry, isAnswered: boolean): IdHandle {
		if ((this.#size + 1) * 2 > this.#sequence.length) this.#resize(this.#sequence.length * 2);
		const handle = this.handleOf(id, sequence);
		const content = hashText(digest, this.#seed);
		const outcome = isAnswered ? QUEUED : WAITING;
		this.#place(handle.idLow, handle.idHigh, content.low | 0, content.high | 0, sequence, outcome);
		this.#size++;
		return handle;
	}

	/** Tells the first answer to the id that stands there and is sent again, as soon as there is one. */
	repeat(cell: number, id: string, told: AcceptanceListener): void {
		const outcome = this.#outcome[cell];
		if (outcome !== WAITING) {
			told({ id, disposition: outcome === DELIVERED ? "delivered" : "queued", duplicate: true });
			return;
		}
		const sequence = this.#sequence[cell]!;
		const waiting = this.#waiting.get(sequence);
		if (waiting === undefined) this.#waiting.set(sequence, [told]);
		else waiting.push(told);
	}

	/** The message is accepted. */
	answer(handle: IdHandle, id: string, disposition: MessageDisposition): void {
		const cell = this.#cellOf(handle.idLow, handle.idHigh, handle.sequence);
		if (cell >= 0) this.#outcome[cell] = disposition === "delivered" ? DELIVERED : QUEUED;
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
		else if (this.#sequence.length > FIRST_CELLS && this.#size * MAX_CELLS_PER_ID < this.#sequence.length) {
			this.#resize(this.#sequence.length / 2);
		}
	}

	#whoWaits({ sequence }: IdHandle): readonly AcceptanceListener[] {
		if (this.#waiting.size === 0) return NOBODY;
		const waiting = this.#waiting.get(sequence) ?? NOBODY;
		this.#waiting.delete(sequence);
		return waiting;
	}

	/** `sequence` undefined: whatever message has the id. */
	#cellOf(low: number, high: number, sequence: number | undefined): number {
		const hashes = this.#hashes;
		const mask = this.#sequence.length - 1;
		for (let cell = low & mask; this.#sequence[cell] !== 0; cell = (cell + 1) & mask) {
			if (hashes[cell * HASHES] !== low || hashes[cell * HASHES + 1] !== high) continue;
			if (sequence === undefined || this.#sequence[cell] === sequence) return cell;
		}
		return -1;
	}

	#place(low: number, high: number, contentLow: number, contentHigh: number, sequence: number, outcome: number): void {
		const mask = this.#sequence.length - 1;
		let cell = low & mask;
		while (this.#sequence[cell] !== 0) cell = (cell + 1) & mask;
		const at = cell * HASHES;
		this.#hashes[at] = low;
		this.#hashes[at + 1] = high;
		this.#hashes[at + 2] = contentLow;
		this.#hashes[at + 3] = contentHigh;
		this.#sequence[cell] = sequence;
		this.#outcome[cell] = outcome;
	}

	/** Frees a cell and moves later ones of the same run back, so that no search stops short. */
	#free(cell: number): void {
		const mask = this.#sequence.length - 1;
		let hole = cell;
		for (let at = (hole + 1) & mask; this.#sequence[at] !== 0; at = (at + 1) & mask) {
			const home = this.#hashes[at * HASHES]! & mask;
			if (((at - home) & mask) < ((at - hole) & mask)) continue;
			for (let word = 0; word < HASHES; word++) {
				this.#hashes[hole * HASHES + word] = this.#hashes[at * HASHES + word]!;
			}
			this.#sequence[hole] = this.#sequence[at]!;
			this.#outcome[hole] = this.#outcome[at]!;
			hole = at;
		}
		this.#sequence[hole] = 0;
	}

	#resize(cells: number): void {
		const [hashes, sequences, outcomes] = [this.#hashes, this.#sequence, this.#outcome];
		this.#hashes = new Int32Array(cells * HASHES);
		this.#sequence = new Float64Array(cells);
		this.#outcome = new Uint8Array(cells);
		for (let cell = 0; cell < sequences.length; cell++) {
			const sequence = sequences[cell]!;
			if (sequence === 0) continue;
			const at = cell * HASHES;
			this.#place(hashes[at]!, hashes[at + 1]!, hashes[at + 2]!, hashes[at + 3]!, sequence, outcomes[cell]!);
		}
	}
}
