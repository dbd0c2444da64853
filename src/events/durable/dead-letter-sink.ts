import type { KvWrite } from "../../state/kv-store.ts";

/** An event that a durable subscription gave up. */
export interface DeadEvent {
	readonly pluginId: string;
	/** The durable subscription's name. */
	readonly subscription: string;
	/** How many events the subscription had set aside before this one. */
	readonly ordinal: number;
	/** A `qirvo.hub.v1.Event` as it was delivered. */
	readonly event: Uint8Array;
	readonly attempts: number;
	readonly reason: string;
	/** Milliseconds since the Unix epoch. */
	readonly time: number;
}

/** Where events go that are set aside. */
export interface DeadLetterSink {
	/** The writes that keep the event, for the commit that settles it: at most 4, with at most 2 KiB beside the event. */
	park(dead: DeadEvent): readonly KvWrite[];
}
