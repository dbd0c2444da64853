/** A place in a feed. Sequences of different epochs do not compare. JSON-safe once `sequence` is written as a string. */
export interface FeedPosition {
	readonly epoch: string;
	readonly sequence: bigint;
}
