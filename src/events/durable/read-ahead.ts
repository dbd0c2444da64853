import { yieldTurn } from "../yield-turn.ts";
import type { MatchingReader, Stretch } from "./matching-reader.ts";
import type { PendingEvents } from "./pending-events.ts";

/** How far is read ahead of what is settled: events, and bytes of them (the last may go over). */
const AHEAD_EVENTS = 1024;
const AHEAD_BYTES = 8 * 1024 * 1024;

export interface ReadAheadOptions {
	readonly reader: MatchingReader;
	/** What was read and is not settled. */
	readonly pending: PendingEvents;
	/** How many events of it there is room for at least. */
	readonly atLeast: number;
	readonly onStretch: (stretch: Stretch) => void;
	readonly onFailure: (error: unknown) => void;
}

/** Reads events as long as there is room for them, from its construction until it is disposed of. */
export class ReadAhead implements Disposable {
	readonly #options: ReadAheadOptions;
	#wake: (() => void) | undefined;
	#stopped = false;

	constructor(options: ReadAheadOptions) {
		this.#options = options;
		void this.#run();
	}

	/** Whether everything that was dispatched is below this sequence, which it has reached. */
	isCurrentAt(sequence: number): boolean {
		return this.#options.reader.isCurrentAt(sequence);
	}

	/** There may be room again. */
	wake(): void {
		if (this.#room > 0) this.#wake?.();
	}

	[Symbol.dispose](): void {
		this.#stopped = true;
		this.#options.reader[Symbol.dispose]();
		this.#wake?.();
	}

	/** How many more events may be read. */
	get #room(): number {
		const { pending, atLeast } = this.#options;
		return pending.bytes < AHEAD_BYTES ? Math.max(AHEAD_EVENTS, atLeast) - pending.size : 0;
	}

	async #run(): Promise<void> {
		const { reader, onStretch, onFailure } = this.#options;
		try {
			while (!this.#stopped) {
				const most = this.#room;
				if (most <= 0) {
					await new Promise<void>((resolve) => {
						this.#wake = resolve;
					});
					this.#wake = undefined;
					continue;
				}
				const stretch = await reader.read(most);
				if (stretch === undefined || this.#stopped) return;
				onStretch(stretch);
				await yieldTurn();
			}
		} catch (error) {
			onFailure(error);
		}
	}
}
