import { HubError } from "../hub-error.ts";
import type { LogStore } from "../state/log-store.ts";

/** Where a subscription starts. */
export type Start =
	| { readonly from: "new" }
	| { readonly from: "everything" }
	/** Milliseconds since the Unix epoch. */
	| { readonly from: "time"; readonly time: number }
	| { readonly from: "after"; readonly epoch: string; readonly sequence: bigint };

/** A place in the log to read from. */
export interface StartPosition {
	readonly sequence: number;
	/** Whether everything from there on has to be there still. */
	readonly exact: boolean;
	/** Events stored before this time, in milliseconds since the Unix epoch, are not wanted; undefined: all are. */
	readonly notBefore?: number;
}

/**
 * Finds the first sequence that is wanted. Throws POSITION_TRIMMED, with the oldest position there is, where events after
 * the position given are no longer kept or are numbered anew.
 */
export async function startPosition(log: LogStore, start: Start): Promise<StartPosition> {
	const bounds = log.bounds();
	switch (start.from) {
		case "new":
			return { sequence: bounds.next, exact: true };
		case "everything":
			return { sequence: bounds.first, exact: false };
		case "time": {
			const page = await log.read({ from: { time: start.time }, maxRecords: 1, maxBytes: 1 });
			return { sequence: page.records[0]?.sequence ?? page.next, exact: false, notBefore: start.time };
		}
		case "after": {
			if (start.epoch !== log.epoch) throw trimmed(log, "is of another epoch");
			if (start.sequence >= BigInt(Number.MAX_SAFE_INTEGER)) {
				throw HubError.field("start.after.sequence", "is larger than any position");
			}
			const sequence = Number(start.sequence) + 1;
			if (sequence < bounds.first) throw trimmed(log, "is older than what is kept");
			// On a cluster it may come from a hub that has seen more. A log of one hub was set back, as from a backup: what was
			// read up to there is not what is stored there now.
			if (sequence > bounds.next && !log.capabilities.shared) throw trimmed(log, "lies ahead of what is stored");
			return { sequence, exact: true };
		}
	}
}

function trimmed(log: LogStore, why: string): HubError {
	return new HubError("POSITION_TRIMMED", `the position to start after ${why}`, {
		metadata: { epoch: log.epoch, oldest_sequence: String(log.bounds().first) },
	});
}
