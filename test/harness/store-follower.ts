import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Position } from "#gen/qirvo/hub/v1/payload_pb.js";
import type { EntryChange, StoreServiceWatchResponse, StoreWatchSchema } from "#gen/qirvo/hub/v1/store_watch_pb.js";

/**
 * What a plugin knows of a store that it watches, over any number of connections. Fails on a change that does not follow from
 * what it knows: one that it was told of, one before such a one, or one behind another that it was not told of.
 */
export class StoreFollower {
	/** The revisions of the entries that are there. */
	readonly entries = new Map<string, bigint>();
	/** Where to go on; undefined: with a snapshot. */
	position: Position | undefined;
	/** Changes told, those merged into others too. */
	changes = 0;
	/** Of these, the merged ones. */
	coalesced = 0;
	caughtUps = 0;
	#newest = 0n;

	/** How the watch is to begin. */
	get watch(): MessageInitShape<typeof StoreWatchSchema> {
		const start = this.position && ({ case: "after", value: this.position } as const);
		return { watchId: "w", store: "s", ...(start && { start }) };
	}

	take({ frame }: StoreServiceWatchResponse): void {
		switch (frame.case) {
			case "batch":
				for (const change of frame.value.changes) this.#change(change);
				this.position = frame.value.position ?? this.position;
				return;
			case "caughtUp":
				this.caughtUps++;
				this.position = frame.value.position;
				return;
			case "heartbeat":
				this.position = frame.value.positions[0]?.position ?? this.position;
				return;
			case "ended":
				throw new Error(`the watch ended: ${frame.value.error?.reason} ${frame.value.error?.message}`);
		}
	}

	#change({ key, entry, previous, revision, coalesced }: EntryChange): void {
		const known = this.entries.get(key);
		if (previous?.revision !== known) throw new Error(`${key}: from ${previous?.revision}, where ${known} is known`);
		if (revision <= this.#newest) throw new Error(`${key}: ${revision} comes after ${this.#newest}`);
		this.#newest = revision;
		if (entry === undefined) this.entries.delete(key);
		else this.entries.set(key, entry.revision);
		this.changes += 1 + coalesced;
		this.coalesced += coalesced;
	}
}
