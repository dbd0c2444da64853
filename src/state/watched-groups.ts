/** Prefixes that share a window of past changes (KV-5), and its bounds. */
export interface WatchedGroup {
	/** Each ends in `/`; of different groups none begins with another. */
	readonly prefixes: readonly string[];
	/**
	 * Whether what is watched is always one part below the prefix (`store/entry/<id>/`): then a change costs nothing to those
	 * who watch another part, and a part of which nothing was let go can be resumed however busy the others are.
	 */
	readonly split: boolean;
	readonly maxChanges: number;
	readonly maxBytes: number;
	readonly maxAgeMs: number;
}

const MIB = 1024 * 1024;
const TEN_MINUTES_MS = 600_000;

/**
 * What of a keyspace stays watchable, and for how long. Groups, because a busy one pushes out its own past alone.
 *
 * Entries of stores have the largest: who lost its connection under full load (some ten thousand changes a second) has
 * several seconds to come back.
 */
export const WATCHED_GROUPS: readonly WatchedGroup[] = Object.freeze([
	{
		prefixes: ["plugin/", "policy/", "outbox/", "route/"],
		split: false,
		maxChanges: 10_000,
		maxBytes: 64 * MIB,
		maxAgeMs: TEN_MINUTES_MS,
	},
	{ prefixes: ["store/definition/"], split: false, maxChanges: 10_000, maxBytes: 16 * MIB, maxAgeMs: TEN_MINUTES_MS },
	{ prefixes: ["store/entry/"], split: true, maxChanges: 250_000, maxBytes: 128 * MIB, maxAgeMs: TEN_MINUTES_MS },
]);
