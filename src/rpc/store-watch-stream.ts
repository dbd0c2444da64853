import type { StoreServiceWatchRequest } from "#gen/qirvo/hub/v1/store_watch_pb.js";
import type { Clock, IdSource, Timer } from "../clock/clock.ts";
import type { KvStore } from "../state/kv-store.ts";
import { EntryWatch } from "../stores/entry-watch.ts";
import type { OpenStore } from "../stores/open-store.ts";
import { storeKeys } from "../stores/store-keys.ts";
import { HEARTBEAT_MS } from "../streams/heartbeat.ts";
import type { Call, Encoded } from "./call.ts";
import type { ChangeEncoder } from "./change-encoder.ts";
import type { OpenStoreWatches, StandingWatch } from "./open-store-watches.ts";
import { PulledStream } from "./pulled-stream.ts";
import type { StoreAdmission } from "./store-admission.ts";
import {
	WATCH_FRAMES,
	type WatchPosition,
	type WatchProgress,
	watchBatch,
	watchCaughtUp,
	watchEnded,
	watchHeartbeat,
	watchReady,
} from "./store-watch-frames.ts";
import { type AskedWatch, parseStoreWatches } from "./store-watch-request.ts";
import type { StreamRegistry } from "./stream-ending.ts";

export interface StoreWatchDeps {
	readonly admission: Pick<StoreAdmission, "admit">;
	/** The keyspace that a store's entries are in. */
	readonly keyspaceOf: (store: OpenStore) => KvStore;
	/** Of the hub, as is `changes`. */
	readonly watches: OpenStoreWatches;
	readonly changes: ChangeEncoder;
	readonly streams: StreamRegistry;
	readonly clock: Clock;
	readonly ids: IdSource;
}

/** The frames of `Watch`. Refuses what is malformed; what else is refused ends the one watch that it concerns. */
export function openStoreWatch(
	deps: StoreWatchDeps,
	request: StoreServiceWatchRequest,
	call: Call,
): PulledStream<Encoded> {
	return new StoreWatchStream(deps, parseStoreWatches(request), call).responses;
}

/** One watch of the stream. */
interface Watch extends StandingWatch {
	readonly id: string;
	readonly entries: EntryWatch;
	/** Where the key of an entry begins in the key of its record. */
	readonly keyOffset: number;
	/** Whether the peer knows that it has caught up. */
	saidCaughtUp: boolean;
	registration: Disposable | undefined;
}

/**
 * The watches of one call, served in turn: a frame of one, then one of the next that has something. Each ends alone, and the
 * stream with the last of them. Nothing waits here but the word of which watches ended: what is told is read from the window of
 * changes when the peer can take it.
 */
class StoreWatchStream {
	readonly responses: PulledStream<Encoded>;
	readonly #deps: StoreWatchDeps;
	readonly #call: Call;
	readonly #open = new Set<Watch>();
	/** Watches that may have something to tell, in the order of their turns. */
	readonly #ready = new Set<Watch>();
	/** What ended and is not told yet. At most one for each watch that was asked for. */
	readonly #ended: { readonly id: string; readonly error: unknown }[] = [];
	/** Watches that gave way. */
	readonly #waiting = new Set<Watch>();
	#isReady = false;
	/** The hub stops: the last positions are told and nothing else. */
	#draining: { readonly error: unknown; told: boolean } | undefined;
	/** When all positions were told last, in monotonic milliseconds. */
	#toldPositions: number;
	#turn: Timer | undefined;

	constructor(deps: StoreWatchDeps, asked: readonly AskedWatch[], call: Call) {
		this.#deps = deps;
		this.#call = call;
		this.#toldPositions = deps.clock.monotonic();
		for (const each of asked) this.#begin(each);
		try {
			this.responses = new PulledStream({
				clock: deps.clock,
				call,
				streams: deps.streams,
				recheck: () => {
					for (const watch of [...this.#open]) deps.watches.recheck(watch);
				},
				frames: { ...WATCH_FRAMES, heartbeat: () => this.#heartbeat() },
				produce: () => this.#produce(),
				onDrain: (error) => {
					this.#draining = { error, told: false };
					this.responses?.finish(error);
				},
				onEnd: () => this.#release(),
			});
		} catch (error) {
			this.#release();
			throw error;
		}
		// It began as the hub was stopping.
		if (this.#draining !== undefined) this.responses.finish(this.#draining.error);
	}

	#begin({ id, store: name, keys, start }: AskedWatch): void {
		const { admission, keyspaceOf, watches } = this.#deps;
		try {
			const store = admission.admit(this.#call, name, "read");
			const watch: Watch = {
				id,
				caller: this.#call.caller,
				store,
				entries: new EntryWatch({ kv: keyspaceOf(store), storeId: store.id, keys, start }),
				keyOffset: storeKeys.entries(store.id).length,
				saidCaughtUp: false,
				registration: undefined,
				end: (error) => this.#end(watch, error),
			};
			watch.registration = watches.add(watch);
			this.#open.add(watch);
			this.#ready.add(watch);
		} catch (error) {
			this.#ended.push({ id, error });
		}
	}

	#end(watch: Watch, error: unknown): void {
		if (!this.#open.delete(watch)) return;
		this.#close(watch);
		this.#ended.push({ id: watch.id, error });
		this.responses?.wake();
	}

	#close(watch: Watch): void {
		this.#ready.delete(watch);
		this.#waiting.delete(watch);
		watch.registration?.[Symbol.dispose]();
		watch.entries[Symbol.dispose]();
	}

	#produce(): Encoded | undefined {
		if (!this.#isReady) {
			this.#isReady = true;
			return watchReady(this.#deps.ids.next());
		}
		if (this.#draining !== undefined) {
			if (this.#draining.told) return undefined;
			this.#draining.told = true;
			return this.#heartbeat();
		}
		while (true) {
			const ended = this.#ended.shift();
			if (ended !== undefined) return watchEnded(ended.id, ended.error, this.#call.requestId);
			// Where one watch keeps the stream busy, the others would never say how far they are.
			if (this.#deps.clock.monotonic() - this.#toldPositions >= HEARTBEAT_MS) return this.#heartbeat();
			const [watch] = this.#ready;
			if (watch === undefined) break;
			this.#ready.delete(watch);
			const frame = this.#next(watch);
			if (frame !== undefined) {
				// Behind the others.
				this.#ready.add(watch);
				return frame;
			}
		}
		if (this.#open.size === 0) this.responses.finish();
		return undefined;
	}

	/** What the watch has to tell. Where that is nothing it waits, or has ended. */
	#next(watch: Watch): Encoded | undefined {
		const { id, entries, keyOffset } = watch;
		// Told before anything that came later.
		if (entries.caughtUp && !watch.saidCaughtUp) return this.#sayCaughtUp(watch);
		try {
			const told = entries.take();
			if (told.length > 0) {
				const changes = told.map((change) => this.#deps.changes.encode(change, keyOffset));
				return watchBatch(id, changes, positionOf(watch));
			}
		} catch (error) {
			this.#end(watch, error);
			return undefined;
		}
		if (entries.caughtUp && !watch.saidCaughtUp) return this.#sayCaughtUp(watch);
		if (entries.idle) entries.wait(() => this.#arrived(watch));
		else this.#giveWay(watch);
		return undefined;
	}

	#sayCaughtUp(watch: Watch): Encoded {
		watch.saidCaughtUp = true;
		return watchCaughtUp({ watchId: watch.id, position: positionOf(watch)! });
	}

	/** It has looked at much and found nothing that it is to tell: others get their turn first, those of other streams too. */
	#giveWay(watch: Watch): void {
		this.#waiting.add(watch);
		this.#turn ??= this.#deps.clock.after(0, () => {
			this.#turn = undefined;
			for (const each of this.#waiting) this.#ready.add(each);
			this.#waiting.clear();
			this.responses.wake();
		});
	}

	#arrived(watch: Watch): void {
		this.#ready.add(watch);
		this.responses.wake();
	}

	#heartbeat(): Encoded {
		this.#toldPositions = this.#deps.clock.monotonic();
		const positions: WatchProgress[] = [];
		for (const watch of this.#open) {
			if (!watch.saidCaughtUp) continue;
			watch.entries.passOver();
			positions.push({ watchId: watch.id, position: positionOf(watch)! });
		}
		return watchHeartbeat(positions);
	}

	#release(): void {
		this.#turn?.cancel();
		for (const watch of this.#open) this.#close(watch);
		this.#open.clear();
	}
}

function positionOf({ entries, store }: Watch): WatchPosition | undefined {
	const revision = entries.position;
	return revision === undefined ? undefined : { epoch: store.id, revision };
}
