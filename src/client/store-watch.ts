import { Mailbox } from "../streams/mailbox.ts";
import type { ClientContext } from "./client-context.ts";
import { HubClientError } from "./errors.ts";
import { isThenable } from "./event-subscription.ts";
import type { FeedPosition } from "./feed-position.ts";
import type { Data } from "./payload.ts";
import { type FedChange, type StoreChange, viewChange } from "./store-change.ts";
import { StoreFeed, type StoreFeedRequest, type StoreStart } from "./store-feed.ts";
import type { StoreSchema } from "./store-schema.ts";

/** Keys that a watch may have told of before it can no longer make up for a gap. */
const DEFAULT_MAX_TRACKED = 1_000_000;

export interface WatchOptions {
	/** Only keys that this matches: `*` is any run of characters but `/`, `**` any run, `?` one character. Default: every key. */
	readonly glob?: string;
	/** Default `snapshot`: what is there, then what changes. */
	readonly start?: StoreStart;
	/** All that was there when the watch began has been passed. */
	readonly onCaughtUp?: (position: FeedPosition) => void;
	/**
	 * The hub no longer has the changes since the last position, so the difference to a new snapshot follows. Not `complete`: the watch
	 * did not begin with a snapshot, so keys that it never told of may be gone without its telling. Default: the client's logger.
	 */
	readonly onResync?: (error: HubClientError, complete: boolean) => void;
	/**
	 * Keys that the watch remembers to have told of, each about 100 bytes. With more it ends with POSITION_TRIMMED where it would have
	 * to tell a difference. Default 1,000,000.
	 */
	readonly maxTracked?: number;
}

export interface WatchStreamOptions extends WatchOptions {
	readonly signal?: AbortSignal;
}

export interface WatchHooks extends WatchOptions {
	/** A handler threw (the watch goes on behind the change), or the watch ended with an error. Default: the client's logger. */
	readonly onError?: (error: unknown, change?: StoreChange) => void;
}

export type ChangeHandler<T = Data> = (change: StoreChange<T>) => unknown;

/** What a watch is of, and how its values are read. */
export interface WatchedStore<T> {
	readonly context: ClientContext;
	readonly name: string;
	readonly schema: StoreSchema<T> | undefined;
}

export function feedRequest(
	store: string,
	{ glob = "", start = "snapshot", maxTracked }: WatchOptions,
): StoreFeedRequest {
	return { store, glob, start, maxTracked: maxTracked ?? DEFAULT_MAX_TRACKED };
}

/** Changes one by one for `for await`. The watch begins with the first `next` and ends with the loop. */
export async function* streamChanges<T>(
	store: WatchedStore<T>,
	options: WatchStreamOptions,
): AsyncGenerator<StoreChange<T>, void, undefined> {
	const { context, name, schema } = store;
	const { signal: outer } = options;
	if (outer?.aborted) return;
	const controller = new AbortController();
	const end = () => controller.abort(outer?.reason);
	outer?.addEventListener("abort", end, { once: true });
	const batches = new Mailbox<readonly FedChange[]>({ maxItems: 1 });
	let consumed = () => {};
	const feed = new StoreFeed(context, feedRequest(name, options), {
		deliver(changes) {
			batches.push(changes);
			return new Promise<void>((resolve) => {
				consumed = resolve;
			});
		},
		onLive: (position) => guard(context, () => options.onCaughtUp?.(position)),
		onResync: (error, complete) => resynced(store, options, error, complete),
	});
	const ended = feed.run(controller.signal).then((error) => batches.close(error));
	try {
		while (await batches.wait(controller.signal)) {
			for (const batch of batches.take()) {
				for (const change of batch) {
					const view = viewChange(change, schema);
					yield view instanceof Promise ? await view : view;
					if (controller.signal.aborted) return;
				}
				consumed();
			}
		}
	} finally {
		outer?.removeEventListener("abort", end);
		controller.abort();
		consumed();
		await ended;
	}
}

/**
 * A handler's watch of a store. Each change is passed once, in order; the next waits until the handler is done. A handler that throws
 * has had the change.
 */
export class StoreWatch<T = Data> implements AsyncDisposable {
	readonly #controller = new AbortController();
	readonly #store: WatchedStore<T>;
	readonly #handler: ChangeHandler<T>;
	readonly #hooks: WatchHooks;
	readonly #feed: StoreFeed;
	readonly #caughtUp = Promise.withResolvers<void>();
	#isCaughtUp = false;
	/** Resolves when no more changes will be passed: with the error that ended it, or undefined after `unwatch`. */
	readonly closed: Promise<HubClientError | undefined>;

	constructor(store: WatchedStore<T>, handler: ChangeHandler<T>, hooks: WatchHooks) {
		this.#store = store;
		this.#handler = handler;
		this.#hooks = hooks;
		this.#feed = new StoreFeed(store.context, feedRequest(store.name, hooks), {
			deliver: (changes) => this.#deliver(changes),
			onLive: (position) => {
				if (!this.#isCaughtUp) guard(store.context, () => hooks.onCaughtUp?.(position));
				this.#isCaughtUp = true;
				this.#caughtUp.resolve();
			},
			onResync: (error, complete) => resynced(store, hooks, error, complete),
		});
		this.#caughtUp.promise.catch(() => {});
		this.closed = this.#run();
	}

	/** Resolves once all that was there when it began has been passed. Rejects where the hub refuses. */
	get caughtUp(): Promise<void> {
		return this.#caughtUp.promise;
	}

	/** Behind what was passed, between two batches of changes; undefined while a snapshot is not complete. A later watch may start here. */
	get position(): FeedPosition | undefined {
		return this.#feed.position;
	}

	/** No change is passed any more; one that is being handled is finished. */
	unwatch(): void {
		this.#controller.abort();
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.unwatch();
	}

	async #run(): Promise<HubClientError | undefined> {
		const error = await this.#feed.run(this.#controller.signal);
		this.#caughtUp.reject(error ?? new HubClientError("CANCELLED", "ended before all that was there was passed"));
		if (error === undefined || error.reason === "CLIENT_CLOSED") return undefined;
		if (this.#isCaughtUp) this.#report(error);
		return error;
	}

	async #deliver(changes: readonly FedChange[]): Promise<void> {
		for (const change of changes) {
			const view = viewChange(change, this.#store.schema);
			const seen = view instanceof Promise ? await view : view;
			if (this.#controller.signal.aborted) return;
			try {
				const handled = this.#handler(seen);
				if (isThenable(handled)) await handled;
			} catch (error) {
				this.#report(error, seen);
			}
		}
	}

	#report(error: unknown, change?: StoreChange): void {
		const { onError } = this.#hooks;
		const { context, name } = this.#store;
		if (onError) guard(context, () => onError(error, change));
		else context.logger.error({ err: error, store: name, key: change?.key }, "a watch of a store has a problem");
	}
}

function resynced(
	store: Pick<WatchedStore<unknown>, "context" | "name">,
	options: WatchOptions,
	error: HubClientError,
	complete: boolean,
): void {
	const { context, name } = store;
	if (options.onResync) guard(context, () => options.onResync?.(error, complete));
	else
		context.logger.warn(
			{ err: error, store: name, complete },
			"a watch of a store tells the difference to a new snapshot",
		);
}

function guard(context: ClientContext, run: () => void): void {
	try {
		run();
	} catch (error) {
		context.logger.error({ err: error }, "a hook of a watch threw");
	}
}
