/** What an applied commit answered, kept so that a repeat of its id answers the same (KV-4). */
export interface CommitOutcome {
	readonly id: string;
	readonly firstRevision: number;
	readonly revision: number;
	/** Milliseconds since the Unix epoch. */
	readonly time: number;
}

/** How long a commit id is remembered, in milliseconds. */
export const COMMIT_ID_AGE_MS = 120_000;
/** How many commit ids are remembered at most. */
export const COMMIT_ID_COUNT = 100_000;

/** The ids of applied commits, oldest first, bounded by age and count. */
export class CommitOutcomes {
	readonly #byId = new Map<string, CommitOutcome>();

	get size(): number {
		return this.#byId.size;
	}

	/** The outcome of a commit applied less than two minutes before `now`. */
	get(id: string, now: number): CommitOutcome | undefined {
		const outcome = this.#byId.get(id);
		return outcome !== undefined && isRemembered(outcome.time, now) ? outcome : undefined;
	}

	/** Remembers an outcome and forgets what has passed either bound. */
	add(outcome: CommitOutcome): void {
		this.#byId.delete(outcome.id);
		this.#byId.set(outcome.id, outcome);
		for (const [id, oldest] of this.#byId) {
			if (this.#byId.size <= COMMIT_ID_COUNT && isRemembered(oldest.time, outcome.time)) break;
			this.#byId.delete(id);
		}
	}
}

/** Whether an id remembered at `time` still is at `now`; a clock that stepped back keeps it. */
export function isRemembered(time: number, now: number): boolean {
	return now - time < COMMIT_ID_AGE_MS;
}
