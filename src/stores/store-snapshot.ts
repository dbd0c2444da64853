import { fromBinary } from "@bufbuild/protobuf";
import { EntryRecordSchema, UsageRecordSchema } from "#gen/qirvo/hub/storage/v1/records_pb.js";
import { HubError } from "../hub-error.ts";
import { compareKeys } from "../state/key-order.ts";
import { type ChangeReader, CompactedError, type KvStore } from "../state/kv-store.ts";
import { prefixEnd } from "../state/state-backend.ts";
import { storeKeys } from "./store-keys.ts";

export interface StoreSnapshotOptions {
	/** The keyspace of the store. */
	readonly kv: KvStore;
	readonly storeId: string;
	/** Bytes of entries as they were that may be held. Default 64 MiB. */
	readonly maxHeldBytes?: number;
	/** Entries that are read at once, 1 to 1,000. Default 200. */
	readonly pageEntries?: number;
}

const PAGE_ENTRIES = 200;
const MAX_HELD_BYTES = 64 * 1024 * 1024;
/** What an entry that is held costs beside its key and value. */
const OVERHEAD_BYTES = 128;

/**
 * All entries of a store as they were at one moment, read page by page while others write.
 *
 * The moment is that of the first page. From then on every change is followed: what it changes of a key that was not read
 * yet is held as it was. A later page is used only when all changes before it were followed; of each key it then counts what
 * is held, and else what the page shows. So nobody waits for a snapshot, and a reader costs what is changed before its eyes:
 * beyond a bound it ends with LIMIT_EXCEEDED.
 */
export class StoreSnapshot implements Disposable {
	readonly #kv: KvStore;
	readonly #prefix: string;
	readonly #maxHeldBytes: number;
	readonly #pageEntries: number;
	readonly #reader: ChangeReader;
	/** How many entries there were, as the store itself counts. */
	readonly #expected: number;
	/** Entries that were changed since, as they were; undefined: there was none of the key. */
	readonly #held = new Map<string, Uint8Array | undefined>();
	#heldBytes = 0;
	/** The last key that was read. */
	#cursor: string;
	#count = 0;
	#complete = false;
	#failure: unknown;
	#waiting: { readonly revision: number; readonly resolve: () => void } | undefined;
	#disposed = false;

	constructor({ kv, storeId, maxHeldBytes = MAX_HELD_BYTES, pageEntries = PAGE_ENTRIES }: StoreSnapshotOptions) {
		this.#kv = kv;
		this.#prefix = storeKeys.entries(storeId);
		this.#cursor = this.#prefix;
		this.#maxHeldBytes = maxHeldBytes;
		this.#pageEntries = pageEntries;
		const usage = kv.get(storeKeys.usage(storeId, ""));
		this.#expected = usage === undefined ? 0 : Number(fromBinary(UsageRecordSchema, usage.value).keys);
		this.#reader = kv.read(this.#prefix, kv.revision);
		this.#follow();
	}

	/** The next entries, in wire form without revisions, in the order of their keys; undefined: these were all. */
	async next(): Promise<readonly Uint8Array[] | undefined> {
		if (this.#complete) return undefined;
		const page = this.#kv.range({
			start: `${this.#cursor}\0`,
			end: prefixEnd(this.#prefix),
			limit: this.#pageEntries,
		});
		await this.#followed(page.revision);
		const last = page.more ? page.entries.at(-1)!.key : undefined;
		const values = new Map(page.entries.map(({ key, value }) => [key, value] as const));
		for (const [key, value] of this.#held) {
			if (last !== undefined && compareKeys(key, last) > 0) continue;
			this.#release(key, value);
			if (value === undefined) values.delete(key);
			else values.set(key, value);
		}
		const keys = [...values.keys()].sort(compareKeys);
		if (last === undefined) this.#complete = true;
		else this.#cursor = last;
		this.#count += keys.length;
		if (this.#complete && this.#count !== this.#expected) {
			throw new Error(`a snapshot found ${this.#count} entries where there were ${this.#expected}`);
		}
		return keys.map((key) => fromBinary(EntryRecordSchema, values.get(key)!).entry);
	}

	[Symbol.dispose](): void {
		if (this.#disposed) return;
		this.#disposed = true;
		this.#reader[Symbol.dispose]();
		this.#held.clear();
		this.#waiting?.resolve();
	}

	/** Settles once every change up to the revision was followed. */
	async #followed(revision: number): Promise<void> {
		while (this.#failure === undefined && !this.#disposed && this.#reader.revision < revision) {
			await new Promise<void>((resolve) => {
				this.#waiting = { revision, resolve };
				this.#follow();
			});
		}
		if (this.#failure !== undefined) throw this.#failure;
		if (this.#disposed) throw new Error("the snapshot was disposed");
	}

	#follow(): void {
		if (this.#disposed || this.#failure !== undefined) return;
		try {
			for (let changes = this.#reader.next(); changes !== undefined; changes = this.#reader.next()) {
				for (const { key, oldValue } of changes) this.#hold(key, oldValue);
				this.#reader.advance(changes.at(-1)!.revision);
			}
		} catch (error) {
			this.#failure = error instanceof CompactedError ? tooBusy(error) : error;
		}
		const waiting = this.#waiting;
		if (waiting !== undefined && (this.#failure !== undefined || this.#reader.revision >= waiting.revision)) {
			this.#waiting = undefined;
			waiting.resolve();
		}
		if (this.#failure === undefined) {
			this.#reader.wait(() => void Promise.resolve().then(() => this.#follow()), this.#waiting?.revision);
		}
	}

	#hold(key: string, value: Uint8Array | undefined): void {
		if (this.#complete || this.#held.has(key) || compareKeys(key, this.#cursor) <= 0) return;
		this.#held.set(key, value);
		this.#heldBytes += sizeOf(key, value);
		if (this.#heldBytes > this.#maxHeldBytes) throw tooBusy();
	}

	#release(key: string, value: Uint8Array | undefined): void {
		this.#held.delete(key);
		this.#heldBytes -= sizeOf(key, value);
	}
}

function sizeOf(key: string, value: Uint8Array | undefined): number {
	return key.length + (value?.byteLength ?? 0) + OVERHEAD_BYTES;
}

function tooBusy(cause?: unknown): HubError {
	return new HubError(
		"LIMIT_EXCEEDED",
		"the store is changed faster than it is read; read faster, or at another time",
		{
			retryAfterMs: 60_000,
			cause,
		},
	);
}
