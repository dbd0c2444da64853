import type { ClientContext } from "./client-context.ts";
import { Deliveries, type MessageHandler } from "./deliveries.ts";
import { DEFAULT_ACK_WAIT_MS, type DeliveryPolicy, toPolicy } from "./delivery-policy.ts";
import { keepOpen } from "./keep-open.ts";
import { attach } from "./receive-attach.ts";
import { receive } from "./receive-calls.ts";

/** How a client receives. */
export interface ReceivingOptions {
	/** Deliveries that may be worked on at once. */
	readonly maxInFlight: number;
	readonly delivery: DeliveryPolicy;
}

/** A handler's place. Disposing of it takes the handler away; messages that it is working on are finished. */
export interface HandlerRegistration extends Disposable {
	/** Resolves once the hub delivers to this client. Rejects where the hub refuses. */
	readonly ready: Promise<void>;
}

/** Keeps the session open through which this client receives, from the first handler on. */
export class Receiver {
	readonly #context: ClientContext;
	readonly #deliveries: Deliveries;
	readonly #receiving: ReceivingOptions;
	#ready: PromiseWithResolvers<void> | undefined;

	constructor(context: ClientContext, receiving: ReceivingOptions) {
		this.#context = context;
		const { ackWait = DEFAULT_ACK_WAIT_MS } = receiving.delivery;
		this.#deliveries = new Deliveries({ logger: context.logger, clock: context.clock, ackWaitMs: ackWait });
		this.#receiving = receiving;
	}

	handle(pattern: string, handler: MessageHandler): HandlerRegistration {
		const place = this.#deliveries.add(pattern, handler);
		const ready = this.#open();
		return { ready, [Symbol.dispose]: () => place[Symbol.dispose]() };
	}

	#open(): Promise<void> {
		if (this.#ready) return this.#ready.promise;
		const ready = Promise.withResolvers<void>();
		ready.promise.catch(() => {});
		this.#ready = ready;
		void this.#keepOpen(ready);
		return ready.promise;
	}

	async #keepOpen(ready: PromiseWithResolvers<void>): Promise<void> {
		const { session, clock, random, bidi, logger } = this.#context;
		const options = {
			context: this.#context,
			deliveries: this.#deliveries,
			maxInFlight: this.#receiving.maxInFlight,
			policy: toPolicy(this.#receiving.delivery),
			onReady: ready.resolve,
		};
		const error = await keepOpen({
			session,
			clock,
			random,
			signal: session.signal,
			run: (connection, signal) => (bidi ? attach : receive)({ ...options, connection, signal }),
		});
		this.#ready = undefined;
		ready.reject(error ?? session.failure);
		if (error && error.reason !== "CLIENT_CLOSED") logger.error({ err: error }, "the hub no longer delivers messages");
	}
}
