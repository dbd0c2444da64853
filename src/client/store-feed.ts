import { create } from "@bufbuild/protobuf";
import { createAsyncIterable } from "@connectrpc/connect/protocol";
import { ChangeCause } from "#gen/qirvo/hub/v1/entries_pb.js";
import { type Position, PositionSchema } from "#gen/qirvo/hub/v1/payload_pb.js";
import { StoreService } from "#gen/qirvo/hub/v1/store_service_pb.js";
import {
	type EntryChange,
	EntryChangeSchema,
	type StoreServiceWatchRequest,
	StoreServiceWatchRequestSchema,
	type StoreServiceWatchResponse,
	type StoreWatch,
	StoreWatchSchema,
} from "#gen/qirvo/hub/v1/store_watch_pb.js";
import { Backoff } from "../streams/backoff.ts";
import type { ClientContext } from "./client-context.ts";
import { fromEntryError, HubClientError } from "./errors.ts";
import type { FeedPosition } from "./feed-position.ts";
import { keepOpen } from "./keep-open.ts";
import { pause } from "./pause.ts";
import { endedEarly, readFrames } from "./read-frames.ts";
import type { FedChange } from "./store-change.ts";
import { ToldKeys } from "./told-keys.ts";

/** Where a watch begins: with all that is there, with what changes from now on, or after a position. */
export type StoreStart = "snapshot" | "new" | FeedPosition;

export interface StoreFeedRequest {
	readonly store: string;
	/** Empty: every key. */
	readonly glob: string;
	readonly start: StoreStart;
	/** Keys that may be told to be there before a difference can no longer be told. */
	readonly maxTracked: number;
}

export interface StoreFeedListener {
	/** Takes changes in order; the next are read once it is done. */
	deliver(changes: readonly FedChange[]): void | Promise<void>;
	/** All that was there when the present stream began is told. Called once for each stream. */
	onLive?(position: FeedPosition): void | Promise<void>;
	/** Everything up to here is told. */
	onPosition?(position: FeedPosition): void;
	/** The hub had nothing to tell for a while. */
	onIdle?(): void;
	/** The stream broke; what was told may no longer be so. */
	onLost?(): void;
	/**
	 * The hub no longer has the changes since the last position; a snapshot is compared with what was told. Not `complete`: the reader
	 * did not begin with a snapshot, so keys that it was never told of may be gone without its being told.
	 */
	onResync?(error: HubClientError, complete: boolean): void;
}

/** The watch's id; a stream has one watch. */
const WATCH_ID = "w";
/** Deletions that are told at once after a comparison. */
const DELETIONS_AT_ONCE = 1_000;

/**
 * One watch that outlives connections. After a loss it goes on behind the last change that it delivered. Where the hub no longer has
 * what followed, or the stream broke inside a snapshot, it takes a snapshot again and delivers the difference to what it delivered
 * before: so a reader's picture is right whenever it is caught up.
 */
export class StoreFeed {
	readonly #context: ClientContext;
	readonly #request: StoreFeedRequest;
	readonly #listener: StoreFeedListener;
	readonly #told: ToldKeys;
	/** Where to resume; undefined: with a snapshot, or as the request says where nothing was told yet. */
	#position: FeedPosition | undefined;
	/** The last position that was told, for a comparison. */
	#last: FeedPosition | undefined;
	/** Whether the picture of the start is complete. */
	#started = false;
	/** A snapshot is being compared with what was told. */
	#comparing = false;
	/** The comparison has passed over entries that looked older than the reader's start. */
	#passedOver = false;
	#live = false;

	constructor(context: ClientContext, request: StoreFeedRequest, listener: StoreFeedListener) {
		this.#context = context;
		this.#request = request;
		this.#listener = listener;
		this.#told = new ToldKeys(request.maxTracked);
	}

	/** Behind what was delivered; undefined while a snapshot is not complete. */
	get position(): FeedPosition | undefined {
		return this.#position;
	}

	/** Resolves when the signal aborts, and with the error that ended it otherwise. */
	async run(signal: AbortSignal): Promise<HubClientError | undefined> {
		const { session, clock, random } = this.#context;
		const backoff = new Backoff({ initialMs: 50, maxMs: 5_000, random });
		while (true) {
			const error = await keepOpen({ session, clock, random, signal, run: this.#watch });
			const mayCompare = this.#last !== undefined || this.#request.start === "snapshot";
			if (error?.reason !== "POSITION_TRIMMED" || !mayCompare) return error;
			if (this.#told.overflowed) return this.#tooMany(error);
			if (this.#live) backoff.reset();
			this.#live = false;
			this.#position = undefined;
			this.#comparing = true;
			this.#listener.onResync?.(error, this.#request.start === "snapshot");
			await pause(clock, backoff.next(), signal);
		}
	}

	readonly #watch = async (_: unknown, signal: AbortSignal) => {
		const { transport, clock } = this.#context;
		if (this.#position === undefined && (this.#told.size > 0 || this.#told.overflowed)) this.#comparing = true;
		if (this.#comparing) {
			this.#passedOver = false;
			if (this.#told.overflowed) throw this.#tooMany(undefined);
			this.#told.beginComparing();
		}
		const input = createAsyncIterable([this.#message()]);
		const onFrame = (message: StoreServiceWatchResponse) => this.#onFrame(message);
		try {
			await readFrames({ transport, method: StoreService.method.watch, input, clock, signal, onFrame });
			throw endedEarly("Watch");
		} finally {
			this.#listener.onLost?.();
		}
	};

	#onFrame({ frame }: StoreServiceWatchResponse): void | Promise<void> {
		if (frame.case === "batch") return this.#onBatch(frame.value.changes, frame.value.position);
		if (frame.case === "caughtUp") return this.#onCaughtUp(frame.value.position);
		if (frame.case === "ended") throw fromEntryError(frame.value.error!);
		if (frame.case === "heartbeat") {
			const position = frame.value.positions.find(({ watchId }) => watchId === WATCH_ID)?.position;
			if (position === undefined || this.#position === undefined) return;
			this.#moveTo(position);
			this.#listener.onIdle?.();
		}
	}

	#onBatch(batch: readonly EntryChange[], position: Position | undefined): void | Promise<void> {
		const changes = batch.filter((change) => this.#isNews(change)).map(this.#fed);
		const done = () => {
			if (position !== undefined && !this.#comparing) this.#moveTo(position);
		};
		const delivered = changes.length === 0 ? undefined : this.#listener.deliver(changes);
		if (delivered === undefined) return done();
		return delivered.then(done);
	}

	/** Notes what the reader is told, and says whether it is told this. */
	#isNews({ key, entry, revision }: EntryChange): boolean {
		if (entry === undefined) {
			this.#told.forget(key);
			return true;
		}
		this.#told.show(key);
		if (this.#comparing) {
			const known = this.#told.get(key);
			if (known === revision) return false;
			// Older than the start of a reader that did not ask for what was there.
			if (known === undefined && this.#request.start !== "snapshot" && this.#isBefore(revision)) {
				this.#passedOver = true;
				return false;
			}
		}
		this.#told.tell(key, revision);
		return true;
	}

	#isBefore(revision: bigint): boolean {
		return this.#last !== undefined && revision <= this.#last.sequence;
	}

	async #onCaughtUp(position: Position | undefined): Promise<void> {
		const at = { epoch: position?.epoch ?? "", sequence: position?.sequence ?? 0n };
		if (this.#passedOver && this.#last?.epoch !== at.epoch) {
			// Another store, whose revisions say nothing of age: nothing of it was told.
			this.#last = { epoch: at.epoch, sequence: 0n };
			throw new HubClientError("SUBSCRIPTION_RESET", "the store is another one than before");
		}
		const gone = this.#told.endComparing();
		for (let from = 0; from < gone.length; from += DELETIONS_AT_ONCE) {
			const keys = gone.slice(from, from + DELETIONS_AT_ONCE);
			await this.#listener.deliver(keys.map((key) => this.#fed(deletion(key, at.sequence))));
		}
		this.#comparing = false;
		this.#passedOver = false;
		this.#started = true;
		this.#live = true;
		this.#moveTo(at);
		await this.#listener.onLive?.(at);
	}

	readonly #fed = (change: EntryChange): FedChange => ({
		change,
		isSnapshot: !this.#started && this.#request.start === "snapshot",
		resynced: this.#started && this.#comparing,
	});

	#moveTo({ epoch, sequence }: FeedPosition): void {
		this.#position = { epoch, sequence };
		this.#last = this.#position;
		this.#listener.onPosition?.(this.#position);
	}

	#tooMany(cause: unknown): HubClientError {
		const { maxTracked } = this.#request;
		return new HubClientError(
			"POSITION_TRIMMED",
			`the difference to what was told cannot be told: it was of more than ${maxTracked} keys`,
			{ cause },
		);
	}

	#message(): StoreServiceWatchRequest {
		const { store, glob, start } = this.#request;
		const watch = create(StoreWatchSchema, { watchId: WATCH_ID, store, keyGlob: glob });
		watch.start = startOf(this.#position ?? (this.#comparing ? "snapshot" : start));
		return create(StoreServiceWatchRequestSchema, { watches: [watch] });
	}
}

function startOf(start: StoreStart): StoreWatch["start"] {
	if (start === "snapshot") return { case: "snapshot", value: true };
	if (start === "new") return { case: "new", value: true };
	return { case: "after", value: create(PositionSchema, start) };
}

function deletion(key: string, revision: bigint): EntryChange {
	return create(EntryChangeSchema, { key, revision, cause: ChangeCause.DELETED });
}
