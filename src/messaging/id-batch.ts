import type { SenderIds } from "./sender-ids.ts";
import type { SettledIds } from "./settled-ids.ts";

/** Ids of one sender that were settled together: they are forgotten in this order, and their record goes with the last. */
export class IdBatch {
	readonly #ids: SenderIds;
	readonly #places: readonly number[];
	readonly #record: SettledIds;
	#forgotten = 0;

	constructor(ids: SenderIds, places: readonly number[], record: SettledIds) {
		this.#ids = ids;
		this.#places = places;
		this.#record = record;
	}

	get source(): string {
		return this.#ids.source;
	}

	/** Ids that are left. */
	get size(): number {
		return this.#places.length - this.#forgotten;
	}

	/** When the message of the next one was accepted, in milliseconds since the Unix epoch; infinite where none is left. */
	get acceptTime(): number {
		return this.size === 0 ? Number.POSITIVE_INFINITY : this.#ids.acceptTime(this.#places[this.#forgotten]!);
	}

	/** Forgets the next one. Gives the key of a record that nothing is left of. */
	forget(): string | undefined {
		this.#ids.delete(this.#places[this.#forgotten++]!);
		return this.#record.forget() ? this.#record.key : undefined;
	}
}
