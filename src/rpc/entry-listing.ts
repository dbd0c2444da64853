import type { ListHistoryRequest, StoreServiceListRequest } from "#gen/qirvo/hub/v1/entries_pb.js";
import { parseKeyGlob } from "../subjects/key-glob.ts";
import { parseStoreName } from "../subjects/store-name.ts";
import { WireWriter } from "../wire/wire-writer.ts";
import { type Call, Encoded } from "./call.ts";
import type { Entries } from "./entry-calls.ts";
import type { EntryIntake } from "./entry-intake.ts";
import { parseKey } from "./entry-operations.ts";
import { decodePageNumber, decodePageToken, encodePageToken, pageSizeOf } from "./page-token.ts";

export interface EntryListingDeps {
	readonly entries: Entries;
	readonly intake: EntryIntake;
}

const ENTRIES_PAGE = { usual: 100, most: 1000 };
const VERSIONS_PAGE = { usual: 16, most: 64 };

/** The RPCs of StoreService that answer in pages. */
export function entryListing({ entries, intake }: EntryListingDeps) {
	return {
		async list(request: StoreServiceListRequest, call: Call) {
			const { prefix, glob, reverse, keysOnly } = request;
			const name = parseStoreName(request.store, "store");
			const limit = pageSizeOf(request.pageSize, ENTRIES_PAGE);
			if (prefix !== "") parseKey(prefix, "prefix");
			const matcher = glob === "" ? undefined : parseKeyGlob(glob, "glob");
			const store = intake.read(call, { store: name });
			const query = ["entries", store.id, prefix, glob, reverse, keysOnly];
			const after = decodePageToken(query, request.pageToken);
			const page = entries.list(store, { prefix, glob: matcher, after, limit, reverse, keysOnly });
			const writer = pageWriter(page.entries, encodePageToken(query, page.next));
			const position = new WireWriter(store.id.length + 16);
			position.string(1, store.id);
			position.varint(2, page.revision);
			writer.bytes(3, position.finish());
			return new Encoded([writer.finish()]);
		},

		async listHistory(request: ListHistoryRequest, call: Call) {
			const name = parseStoreName(request.store, "store");
			const key = parseKey(request.key, "key");
			const limit = pageSizeOf(request.pageSize, VERSIONS_PAGE);
			const store = intake.read(call, { store: name });
			const query = ["versions", store.id, key];
			const before = decodePageNumber(query, request.pageToken);
			const page = entries.history(store, key, { limit, before });
			const next = page.next === undefined ? undefined : String(page.next);
			return new Encoded([pageWriter(page.versions, encodePageToken(query, next)).finish()]);
		},
	};
}

/** Items as field 1 and the token as field 2. */
function pageWriter(items: readonly Uint8Array[], nextPageToken: string): WireWriter {
	let bytes = 0;
	for (const item of items) bytes += item.byteLength + 8;
	const writer = new WireWriter(bytes + nextPageToken.length + 128);
	for (const item of items) writer.bytes(1, item);
	if (nextPageToken !== "") writer.string(2, nextPageToken);
	return writer;
}
