import type { Clock } from "../clock/clock.ts";
import type { EventFilter } from "../expressions/event-filter.ts";
import type { LogStore } from "../state/log-store.ts";
import type { Pattern } from "../subjects/pattern.ts";
import type { Subscriber } from "./subscriber.ts";
import type { TailPump } from "./tail-pump.ts";

/** What a caller asked for, checked. */
export interface SubscriptionOptions {
	readonly patterns: readonly Pattern[];
	/** -100 to 100. */
	readonly priority: number;
	readonly filter: EventFilter | undefined;
	/** Ends the stream after this many events; 0: never. */
	readonly limit: number;
	/** Milliseconds; undefined: never. */
	readonly idleTimeoutMs: number | undefined;
	/** False: ends once the history is delivered. */
	readonly live: boolean;
}

export interface SubscriptionParts {
	readonly id: string;
	readonly subscriber: Subscriber;
	readonly options: SubscriptionOptions;
	/** The first sequence that it wants. */
	readonly from: number;
	/** The first sequence that was not stored yet when it was asked for. */
	readonly began: number;
	/** Whether the record at `from` has to be there still when it is first read. */
	readonly exactStart: boolean;
	/** Events stored before this time are passed over, in milliseconds since the Unix epoch; -Infinity: none are. */
	readonly notBefore: number;
	/** Told to the reader at first; empty: none. */
	readonly resumeToken: string;
	readonly log: LogStore;
	readonly pump: TailPump;
	readonly clock: Clock;
	readonly bufferRuns: number;
	readonly bufferBytes: number;
	/** Called once, when nothing of the subscription is left. */
	readonly onClose: () => void;
}
