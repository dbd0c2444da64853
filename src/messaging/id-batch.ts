import type { IdHandle, SenderIds } from "./sender-ids.ts";
import type { SettledIds } from "./settled-ids.ts";

/** An id that is remembered for some time after its message was accepted, in milliseconds since the Unix epoch. */
export interface RememberedId extends IdHandle {
	readonly acceptTime: number;
}

/** Numbers of the hash of an id. */
const HASHES = 2;

/** Ids of one sender that were settled together: they are forgotten in this order, and their record goes with the last. */
export class IdBatch {
	readonly #ids: SenderIds;
	readonly #record: SettledIds;
	readonly #hashes: Int32Array;
	readonly #sequences: Float64Array;
	readonly #acceptTimes: Float64Array;
	#forgotten = 0;

	constructor(ids: SenderIds, remembered: readonly RememberedId[], record: SettledIds) {
		this.#ids = ids;
		this.#record = record;
		this.#hashes = new Int32Array(remembered.length * HASHES);
		this.#sequences = new Float64Array(remembered.length);
		this.#acceptTimes = new Float64Array(remembered.length);
		for (let index = 0; index < remembered.length; index++) {
			const { idLow, idHigh, sequence, acceptTime } = remembered[index]!;
			this.#hashes[index * HASHES] = idLow;
			this.#hashes[index * HASHES + 1] = idHigh;
			this.#sequences[index] = sequence;
			this.#acceptTimes[index] = acceptTime;
		}
	}

	get source(): string {
		return this.#ids.source;
	}

	/** Ids that are left. */
	get size(): number {
		return this.#sequences.length - this.#forgotten;
	}

	/** When the message of the next one was accepted, in milliseconds since the Unix epoch; infinite where none is left. */
	get acceptTime(): number {
		return this.#acceptTimes[this.#forgotten] ?? Number.POSITIVE_INFINITY;
	}

	/** Forgets the next one. Gives the key of a record that nothing is left of. */
	forget(): string | undefined {
		const index = this.#forgotten++;
		const idLow = this.#hashes[index * HASHES]!;
		const idHigh = this.#hashes[index * HASHES + 1]!;
		this.#ids.delete({ idLow, idHigh, sequence: this.#sequences[index]! });
		return this.#record.forget() ? this.#record.key : undefined;
	}
}
