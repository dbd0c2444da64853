import type { StoreServiceWatchRequest, StoreWatch } from "#gen/qirvo/hub/v1/store_watch_pb.js";
import { HubError } from "../hub-error.ts";
import type { KeyMatcher } from "../stores/entry-query.ts";
import type { WatchStart } from "../stores/entry-watch.ts";
import { parseKeyGlob } from "../subjects/key-glob.ts";
import { parseStoreName } from "../subjects/store-name.ts";

const MAX_WATCHES = 64;
const MAX_WATCH_ID = 128;

/** One watch that is asked for. */
export interface AskedWatch {
	readonly id: string;
	readonly store: string;
	readonly keys: KeyMatcher | undefined;
	readonly start: WatchStart;
}

/** Refuses the whole request where any of it is not well formed. */
export function parseStoreWatches({ watches }: StoreServiceWatchRequest): readonly AskedWatch[] {
	if (watches.length < 1 || watches.length > MAX_WATCHES) {
		throw HubError.field("watches", `must be 1 to ${MAX_WATCHES}`);
	}
	const ids = new Set<string>();
	return watches.map((watch, index) => {
		const path = `watches[${index}]`;
		if (watch.watchId.length > MAX_WATCH_ID) {
			throw HubError.field(`${path}.watch_id`, `has more than ${MAX_WATCH_ID} characters`);
		}
		if (ids.has(watch.watchId)) throw HubError.field(`${path}.watch_id`, "is that of another watch");
		ids.add(watch.watchId);
		return {
			id: watch.watchId,
			store: parseStoreName(watch.store, `${path}.store`),
			keys: watch.keyGlob === "" ? undefined : parseKeyGlob(watch.keyGlob, `${path}.key_glob`),
			start: parseStart(watch, path),
		};
	});
}

function parseStart({ start }: StoreWatch, path: string): WatchStart {
	switch (start.case) {
		case "after":
			return { from: "after", epoch: start.value.epoch, sequence: start.value.sequence };
		case "new":
		case "snapshot":
			if (!start.value) throw HubError.field(`${path}.${start.case}`, "must be true where it is set");
			return { from: start.case };
		case undefined:
			return { from: "snapshot" };
	}
}
