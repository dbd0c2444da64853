import type { Clock, IdSource } from "../clock/clock.ts";
import type { FirstAnswers } from "../idempotency/first-answers.ts";
import type { KvStore } from "../state/kv-store.ts";
import type { LogRetention, LogStore } from "../state/log-store.ts";
import type { DeadLetterSink } from "./durable/dead-letter-sink.ts";
import { DurableSubscriptions } from "./durable/durable-subscriptions.ts";
import { EventLog } from "./event-log.ts";
import { OutboxPump } from "./outbox-pump.ts";
import { Retention } from "./retention.ts";
import { type SubscriptionBounds, Subscriptions } from "./subscriptions.ts";
import { TailPump } from "./tail-pump.ts";

export interface EventBusOptions {
	/** The log named `events`. */
	readonly log: LogStore;
	/** Holds the outbox of the hub's own events. */
	readonly kv: KvStore;
	readonly clock: Clock;
	readonly ids: IdSource;
	/** Of changes to durable subscriptions. */
	readonly answers: FirstAnswers;
	/** Where events go that durable subscriptions give up. */
	readonly letters: DeadLetterSink;
	/** What history is kept. Default: everything. */
	readonly retention?: LogRetention;
	readonly subscriptions?: Partial<SubscriptionBounds>;
	/** Told of storage faults that no caller waits for. `what` names the work in a few words. */
	readonly onFault: (what: string, error: unknown) => void;
}

/** The parts of the event bus, wired. Works once it is started; stops what it started, in reverse. */
export class EventBus implements AsyncDisposable {
	readonly log: LogStore;
	readonly events: EventLog;
	readonly subscriptions: Subscriptions;
	readonly durable: DurableSubscriptions;
	readonly #pump: TailPump;
	readonly #outbox: OutboxPump;
	readonly #retention: Retention;

	constructor(options: EventBusOptions) {
		const { log, kv, clock, ids, onFault } = options;
		this.log = log;
		this.events = new EventLog(log);
		this.#pump = new TailPump({ log, clock, onFault: (error) => onFault("reading events for subscriptions", error) });
		this.subscriptions = new Subscriptions({ log, pump: this.#pump, clock, ids, bounds: options.subscriptions });
		this.durable = new DurableSubscriptions({
			kv,
			log,
			pump: this.#pump,
			clock,
			ids,
			answers: options.answers,
			sink: options.letters,
			onFault: (error) => onFault("serving durable subscriptions", error),
		});
		this.#outbox = new OutboxPump({ kv, log, clock, ids, onFault: (error) => onFault("moving the outbox", error) });
		this.#retention = new Retention({
			log,
			clock,
			keep: options.retention ?? {},
			onFault: (error) => onFault("trimming events", error),
		});
	}

	/** Pairs of pattern and subscription attached to live events; 0 once every subscription has ended. */
	get attached(): number {
		return this.#pump.size;
	}

	start(): void {
		this.#pump.start();
		this.subscriptions.start();
		this.durable.start();
		this.#outbox.start();
		this.#retention.start();
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.#retention[Symbol.asyncDispose]();
		await this.#outbox[Symbol.asyncDispose]();
		await this.durable[Symbol.asyncDispose]();
		this.subscriptions[Symbol.dispose]();
		this.#pump[Symbol.dispose]();
	}
}
