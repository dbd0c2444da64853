import type { Deadline } from "../../streams/deadline-queue.ts";

/** An event that matches and is not settled. */
export interface PendingEvent {
	readonly sequence: number;
	/** Field 1 of an `EventDelivery`, tag and length included: the event as it is delivered. Not for those that ask often. */
	readonly entry: Uint8Array;
	/** Bytes of the entry. */
	readonly size: number;
	/** Events of one key are under way one at a time; empty: no key. */
	readonly orderingKey: string;
	/** Where it is stored beside the log, since it was put back; undefined: it is not. */
	readonly returnedKey: string | undefined;
	/** Deliveries so far. */
	attempts: number;
	/** Milliseconds since the Unix epoch before which it is not delivered; 0: at any time. */
	notBefore: number;
	/** The end of its ack wait, or of its delay; undefined while neither runs. */
	deadline: Deadline | undefined;
}

/** What an event takes in memory, about, in bytes. */
export function pendingCost(event: PendingEvent): number {
	return event.size + event.orderingKey.length * 2 + 128;
}
