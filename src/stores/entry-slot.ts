import type { Line, Turn } from "./key-turns.ts";
import { storeKeys } from "./store-keys.ts";
import type { StoredEntry } from "./stored-entry.ts";

/** A key of a store: what is there, and who writes it. One object for all, so that a key is looked up once for each write. */
export class EntrySlot implements Line {
	readonly storeId: string;
	readonly key: string;
	/** In the keyspace. */
	readonly entryKey: string;
	/** What is there; undefined where there is nothing, or where it is not known. */
	entry: StoredEntry | undefined;
	/** Whether `entry` says what is there. */
	isKnown = false;
	/** Whether a commit that writes it is on its way: the keyspace alone knows then what is there. */
	isWriting = false;
	last: Turn | undefined;

	constructor(storeId: string, key: string) {
		this.storeId = storeId;
		this.key = key;
		this.entryKey = storeKeys.entry(storeId, key);
	}

	/** Whether somebody writes it, or waits to. */
	get isBusy(): boolean {
		return this.isWriting || this.last !== undefined;
	}

	/** A commit that writes it is on its way. */
	begin(): void {
		this.isWriting = true;
		this.isKnown = false;
		this.entry = undefined;
	}

	/** It was written; undefined: deleted. */
	settle(entry: StoredEntry | undefined): void {
		this.isWriting = false;
		this.isKnown = true;
		this.entry = entry;
	}

	/** What is known of it may not be what is there. */
	forget(): void {
		this.isWriting = false;
		this.isKnown = false;
		this.entry = undefined;
	}
}
