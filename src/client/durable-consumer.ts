import type { ClientContext } from "./client-context.ts";
import { consume } from "./consume-attach.ts";
import { consumeByCalls } from "./consume-calls.ts";
import type { ConsumeHandler } from "./consuming.ts";
import { HubClientError } from "./errors.ts";
import type { HubEvent } from "./hub-event.ts";
import { keepOpen } from "./keep-open.ts";
import type { Data } from "./payload.ts";

export interface ConsumeOptions<T = Data> {
	/** Events that handlers work on at once, 1-10,000. Default 64. */
	readonly maxInFlight?: number;
	/** A handler threw, or consuming ended with an error (then without an event). Default: the client's logger. */
	readonly onError?: (error: unknown, event: HubEvent<T> | undefined) => void;
	/** The hub no longer had events that were not settled: at most so many. Default: the client's logger. */
	readonly onLost?: (lost: bigint) => void;
}

/** A handler's share of a durable subscription. */
export class DurableConsumer<T = Data> implements AsyncDisposable {
	/** Resolves when no more events will be passed: with the error that ended it, or undefined after `stop`. */
	readonly closed: Promise<HubClientError | undefined>;
	readonly #ready = Promise.withResolvers<void>();
	readonly #stopping = new AbortController();

	/** `ensure` creates the subscription where that is wanted. */
	constructor(
		context: ClientContext,
		name: string,
		ensure: () => Promise<void>,
		handler: ConsumeHandler<T>,
		options: ConsumeOptions<T>,
	) {
		this.#ready.promise.catch(() => {});
		this.closed = this.#run(context, name, ensure, handler, options);
	}

	/** Resolves once the hub delivers to this consumer. Rejects where the hub refuses. */
	get ready(): Promise<void> {
		return this.#ready.promise;
	}

	/** Takes no more events, lets the handlers that run finish, and has their outcomes confirmed. */
	async stop(): Promise<void> {
		this.#stopping.abort();
		await this.closed;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.stop();
	}

	async #run(
		context: ClientContext,
		name: string,
		ensure: () => Promise<void>,
		handler: ConsumeHandler<T>,
		options: ConsumeOptions<T>,
	): Promise<HubClientError | undefined> {
		const { session, clock, random, bidi, logger } = context;
		const { maxInFlight = 64 } = options;
		const onError = options.onError ?? ((err: unknown) => logger.warn({ err, name }, "consuming events failed"));
		const onLost = options.onLost ?? ((lost: bigint) => logger.warn({ lost, name }, "events were lost to retention"));
		let ensured = false;
		const error = await keepOpen({
			session,
			clock,
			random,
			signal: session.signal,
			run: async (connection, signal) => {
				if (this.#stopping.signal.aborted) return;
				if (!ensured) await ensure();
				ensured = true;
				await (bidi ? consume : consumeByCalls)({
					context,
					name,
					handler: handler as ConsumeHandler,
					maxInFlight,
					connection,
					signal,
					stopping: this.#stopping.signal,
					onReady: this.#ready.resolve,
					onError: onError as (error: unknown, event: HubEvent | undefined) => void,
					onLost,
				});
			},
		});
		this.#ready.reject(error ?? new HubClientError("CANCELLED", "stopped before the hub answered"));
		if (error === undefined || error.reason === "CLIENT_CLOSED") return undefined;
		onError(error, undefined);
		return error;
	}
}
