import type { Clock, IdSource } from "../../src/clock/clock.ts";
import { type DeadLetterBounds, DeadLetters } from "../../src/dead-letters/dead-letters.ts";
import { CommitQueue } from "../../src/state/commit-queue.ts";
import type { KvStore } from "../../src/state/kv-store.ts";

/** The dead letters that are stored, with a queue of their own. */
export function openLetters(parts: {
	readonly kv: KvStore;
	readonly clock: Clock;
	readonly ids: IdSource;
	readonly bounds?: DeadLetterBounds;
}): DeadLetters {
	const letters = new DeadLetters({ ...parts, queue: new CommitQueue(parts) });
	letters.load();
	return letters;
}
