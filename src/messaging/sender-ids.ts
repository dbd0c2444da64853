import { hashText } from "../state/text-hash.ts";
import type { AcceptanceListener, MessageDisposition } from "./accepted-message.ts";

const FIRST_PLACES = 8;

/** Numbers of the hashes at a place: two of the id, two of the digest. */
const HASHES = 4;

/** What the sender of an id was told. */
const WAITING = 1;
const DELIVERED = 2;
const QUEUED = 3;

/** An id as it is kept. */
export interface IdEntry {
	readonly id: string;
	/** Tells a repeat from another message of the same id. */
	readonly digest: string;
	/** Orders the messages of one mailbox. */
	readonly sequence: number;
	/** Milliseconds since the Unix epoch. */
	readonly acceptTime: number;
}

/**
 * The ids that one sender has used in one mailbox, each at a place of its own. Because many are remembered, none is an object:
 * an id costs about 50 bytes in typed arrays, and its text is not kept. It is told by 64 bits of a hash that nobody outside
 * can foresee, and tables are apart by sender, so that no plugin can make the id of another look used.
 */
export class SenderIds {
	readonly source: string;
	readonly #seed: number;
	readonly #onEmpty: (ids: SenderIds) => void;
	/** By place. */
	#hashes = new Int32Array(FIRST_PLACES * HASHES);
	#sequence = new Float64Array(FIRST_PLACES);
	#acceptTime = new Float64Array(FIRST_PLACES);
	#outcome = new Uint8Array(FIRST_PLACES);
	/** Places that are free, the next one last. */
	#free = new Int32Array(FIRST_PLACES);
	#freeCount = 0;
	/** Places that were ever taken. */
	#used = 0;
	#size = 0;
	/** Finds places: each plus one, 0 where there is none; twice as long as there are places. */
	#table = new Int32Array(FIRST_PLACES * 2);
	/** Who sent an id again before there was an answer, by place. */
	readonly #waiting = new Map<number, AcceptanceListener[]>();

	/** `seed`: what no plugin can foresee. `onEmpty` runs when the last id is deleted. */
	constructor(source: string, seed: number, onEmpty: (ids: SenderIds) => void) {
		this.source = source;
		this.#seed = seed;
		this.#onEmpty = onEmpty;
	}

	/** The place of an id; -1: it is new. */
	find(id: string): number {
		const { high, low } = hashText(id, this.#seed);
		const mask = this.#table.length - 1;
		for (let at = low & mask; this.#table[at] !== 0; at = (at + 1) & mask) {
			const place = this.#table[at]! - 1;
			if (this.#hashes[place * HASHES] === (low | 0) && this.#hashes[place * HASHES + 1] === (high | 0)) return place;
		}
		return -1;
	}

	/** Whether the message of this id was the same. */
	isSame(place: number, digest: string): boolean {
		const { high, low } = hashText(digest, this.#seed);
		return this.#hashes[place * HASHES + 2] === (low | 0) && this.#hashes[place * HASHES + 3] === (high | 0);
	}

	/** Gives a new id its place. Its sender waits for an answer, unless it had one (`isAnswered`). */
	add({ id, digest, sequence, acceptTime }: IdEntry, isAnswered: boolean): number {
		const place = this.#take();
		const own = hashText(id, this.#seed);
		const content = hashText(digest, this.#seed);
		this.#hashes[place * HASHES] = own.low;
		this.#hashes[place * HASHES + 1] = own.high;
		this.#hashes[place * HASHES + 2] = content.low;
		this.#hashes[place * HASHES + 3] = content.high;
		this.#sequence[place] = sequence;
		this.#acceptTime[place] = acceptTime;
		this.#outcome[place] = isAnswered ? QUEUED : WAITING;
		this.#link(place);
		return place;
	}

	/** Milliseconds since the Unix epoch. */
	acceptTime(place: number): number {
		return this.#acceptTime[place]!;
	}

	sequence(place: number): number {
		return this.#sequence[place]!;
	}

	/** Tells the first answer to an id that is sent again, as soon as there is one. */
	repeat(place: number, id: string, told: AcceptanceListener): void {
		const outcome = this.#outcome[place];
		if (outcome !== WAITING) {
			told({ id, disposition: outcome === DELIVERED ? "delivered" : "queued", duplicate: true });
			return;
		}
		const waiting = this.#waiting.get(place);
		if (waiting === undefined) this.#waiting.set(place, [told]);
		else waiting.push(told);
	}

	/** The message is accepted. */
	answer(place: number, id: string, disposition: MessageDisposition): void {
		this.#outcome[place] = disposition === "delivered" ? DELIVERED : QUEUED;
		for (const told of this.#whoWaits(place)) told({ id, disposition, duplicate: true });
	}

	/** The message is not accepted, and its id is new again. */
	refuse(place: number, error: unknown): void {
		const waiting = this.#whoWaits(place);
		this.delete(place);
		for (const told of waiting) told(undefined, error);
	}

	delete(place: number): void {
		this.#unlink(place);
		this.#free[this.#freeCount++] = place;
		if (--this.#size === 0) this.#onEmpty(this);
	}

	/** The id is to be found no longer, while its place stays until it is deleted. */
	hide(place: number): void {
		this.#unlink(place);
	}

	/** The same for all. */
	hideAll(): void {
		this.#table.fill(0);
	}

	#whoWaits(place: number): readonly AcceptanceListener[] {
		if (this.#waiting.size === 0) return [];
		const waiting = this.#waiting.get(place) ?? [];
		this.#waiting.delete(place);
		return waiting;
	}

	#take(): number {
		this.#size++;
		if (this.#freeCount > 0) return this.#free[--this.#freeCount]!;
		if (this.#used === this.#sequence.length) this.#grow();
		return this.#used++;
	}

	#grow(): void {
		const places = this.#sequence.length * 2;
		this.#hashes = copied(this.#hashes, new Int32Array(places * HASHES));
		this.#sequence = copied(this.#sequence, new Float64Array(places));
		this.#acceptTime = copied(this.#acceptTime, new Float64Array(places));
		this.#outcome = copied(this.#outcome, new Uint8Array(places));
		this.#free = copied(this.#free, new Int32Array(places));
		const linked = this.#table.filter((entry) => entry !== 0);
		this.#table = new Int32Array(places * 2);
		for (const entry of linked) this.#link(entry - 1);
	}

	#link(place: number): void {
		const table = this.#table;
		const mask = table.length - 1;
		let at = this.#hashes[place * HASHES]! & mask;
		while (table[at] !== 0) at = (at + 1) & mask;
		table[at] = place + 1;
	}

	/** Frees the place's cell and moves later cells of the same run back, so that no search stops short. Harmless where it is gone. */
	#unlink(place: number): void {
		const table = this.#table;
		const mask = table.length - 1;
		let hole = this.#hashes[place * HASHES]! & mask;
		while (table[hole] !== place + 1) {
			if (table[hole] === 0) return;
			hole = (hole + 1) & mask;
		}
		for (let at = (hole + 1) & mask; table[at] !== 0; at = (at + 1) & mask) {
			const home = this.#hashes[(table[at]! - 1) * HASHES]! & mask;
			if (((at - home) & mask) < ((at - hole) & mask)) continue;
			table[hole] = table[at]!;
			hole = at;
		}
		table[hole] = 0;
	}
}

function copied<A extends Int32Array | Float64Array | Uint8Array>(from: A, to: A): A {
	to.set(from);
	return to;
}
