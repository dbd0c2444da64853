import type { WriteUnit } from "./entry-write.ts";

/** Units waiting from which on no more are taken. */
const FULL_UNITS = 100_000;
/** Bytes of units waiting from which on no more are taken. */
const FULL_BYTES = 64 * 1024 * 1024;

/** What of one writer waits. */
export interface WriterShare {
	readonly writer: string;
	units: number;
	bytes: number;
}

/**
 * How much waits to be written, and its bounds: in all, and of one writer. No writer has more than a half, so that one alone
 * cannot have all others refused.
 */
export class WaitingUnits {
	#units = 0;
	#bytes = 0;
	readonly #shares = new Map<string, WriterShare>();

	get units(): number {
		return this.#units;
	}

	get isFull(): boolean {
		return this.#units >= FULL_UNITS || this.#bytes >= FULL_BYTES;
	}

	/** Counts a unit in with its writer's share; undefined: there is no room for it. */
	enter({ writer }: WriteUnit, weight: number): WriterShare | undefined {
		if (this.isFull) return undefined;
		let share = this.#shares.get(writer);
		if (share === undefined) {
			share = { writer, units: 0, bytes: 0 };
			this.#shares.set(writer, share);
		} else if (share.units >= FULL_UNITS / 2 || share.bytes >= FULL_BYTES / 2) return undefined;
		share.units++;
		share.bytes += weight;
		this.#units++;
		this.#bytes += weight;
		return share;
	}

	leave(share: WriterShare, weight: number): void {
		this.#units--;
		this.#bytes -= weight;
		share.bytes -= weight;
		if (--share.units === 0) this.#shares.delete(share.writer);
	}
}
