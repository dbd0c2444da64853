import type { DeadLetterDraft, LetterChange } from "../../dead-letters/dead-letters.ts";

/** Where events go that are given up, and where they are fetched from to be put back. */
export interface DeadLetterSink {
	/** Keeps what could not be delivered, with the commit that settles it. At most 101 writes. */
	park(draft: DeadLetterDraft): LetterChange;
	/** Takes a letter out, with the commit that puts it back. Refuses with DEAD_LETTER_NOT_FOUND. */
	take(pluginId: string, id: string): LetterChange;
}
