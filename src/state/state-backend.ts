import type { KvStore } from "./kv-store.ts";
import type { LogOptions, LogStore } from "./log-store.ts";
import type { PeerBus } from "./peer-bus.ts";

/** Everything a hub keeps, behind three ports. Opened by `server/open-state.ts`, disposed last at shutdown. */
export interface StateBackend extends AsyncDisposable {
	readonly name: "memory" | "embedded" | "jetstream";
	/** What must outlive the process. */
	readonly kv: KvStore;
	/** What need not: gone at a restart, on every backend. */
	readonly volatileKv: KvStore;
	readonly bus: PeerBus;
	/**
	 * Copies everything durable as it is at one moment, beside reads and writes, which wait for it at no time. Resolves when the copy
	 * is there; undefined where nothing is durable. Rejects with `StorageError` where there is no room for it.
	 */
	copy(): Promise<StateCopy | undefined>;
	/** Opens (or creates) the named log, `[a-z-]{1,32}`. Opening a name twice gives the same log. */
	log(name: string, options?: LogOptions): Promise<LogStore>;
	/**
	 * Settles only if the backend can no longer keep its promises. The hub then stops serving and exits: what it
	 * acknowledged is on disk, and what is on disk can no longer be vouched for by this process.
	 */
	readonly failed: Promise<Error>;
}

/** A copy of everything durable. It takes up room until it is disposed. */
export interface StateCopy extends AsyncDisposable {
	readonly bytes: number;
	/** The version of its form, as the backend counts it. */
	readonly format: number;
	/** All of its bytes, in pieces of at most 256 KiB that are the reader's own. Reads on as it is asked. */
	read(): AsyncIterable<Uint8Array>;
}

/** Data of a newer version, held by another process, or damaged: the hub must not start on it. */
export class StateOpenError extends Error {
	override readonly name = "StateOpenError";
	readonly kind: "newer-version" | "in-use" | "damaged" | "unusable";
	constructor(kind: "newer-version" | "in-use" | "damaged" | "unusable", message: string, cause?: unknown) {
		super(message, { cause });
		this.kind = kind;
	}
}

/** The smallest string above every string with this prefix, for `KvRange.end`. */
export function prefixEnd(prefix: string): string {
	const last = prefix.codePointAt(prefix.length - 1);
	if (last === undefined || last >= 0x7f) throw new RangeError("a key prefix ends in an ASCII character");
	return prefix.slice(0, -1) + String.fromCodePoint(last + 1);
}
