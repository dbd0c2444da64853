import { answer } from "./commands.ts";
import { numberIn, numberOf } from "./payload.ts";

/** What a client of a store is told to do: `count` gets or sets from number `from` on, with `window` of them unanswered at most. */
export interface EntryCommand {
	readonly kind: "set" | "get";
	readonly from: number;
	readonly count: number;
	readonly window: number;
	/** How many a client that sends whole batches puts in one. */
	readonly batch: number;
}

/** How many different keys there are; the number of a value says which is its key. */
export const KEYS = 20_000;

/** The store of the hub. */
export const STORE = "bench";

export function keyOf(number: number): string {
	return `key/${String(number % KEYS).padStart(6, "0")}`;
}

/** Throws where the value that was read is not one that was written under the key of `number`. */
export function checkValue(value: string | Uint8Array | null | undefined, number: number): void {
	if (value === null || value === undefined) throw new Error(`${keyOf(number)} is not there`);
	const found = typeof value === "string" ? numberOf(value) : numberIn(value);
	if (value.length !== 200 || found % KEYS !== number % KEYS) throw new Error(`${keyOf(number)} has value ${found}`);
}

/** Runs each command, and answers { ms }. */
export function answerRounds(run: (command: EntryCommand) => Promise<number>): Promise<never> {
	return answer<EntryCommand>(async (command) => ({ ms: await run(command) }));
}
