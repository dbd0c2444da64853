import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { expect } from "vitest";
import { DurableSubscriptionSchema } from "#gen/qirvo/hub/v1/durable_subscriptions_pb.js";
import { EventDeliverySchema, EventSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import type { DeadLetter, DeadLetterBounds, DeadLetters } from "../../src/dead-letters/dead-letters.ts";
import type {
	ConsumerOutput,
	ConsumerSession,
	EventDeliveryFields,
} from "../../src/events/durable/consumer-session.ts";
import { deadEventOf } from "../../src/events/durable/dead-event.ts";
import { EventBus } from "../../src/events/event-bus.ts";
import { FirstAnswers } from "../../src/idempotency/first-answers.ts";
import { keys } from "../../src/state/key-layout.ts";
import type { KvCommit, KvStore, StorageError } from "../../src/state/kv-store.ts";
import type { LogStore } from "../../src/state/log-store.ts";
import { openMemoryState } from "../../src/state/memory/open-memory-state.ts";
import { prefixEnd } from "../../src/state/state-backend.ts";
import { FakeClock, SequentialIds } from "./fake-clock.ts";
import { wrapKv } from "./kv-wrapper.ts";
import { openLetters } from "./open-letters.ts";

/** A durable subscription `mine` of the plugin `reader`, over an event bus on memory state. */
export class DurableRig implements AsyncDisposable {
	readonly clock = new FakeClock();
	readonly ids = new SequentialIds();
	readonly state = openMemoryState({ clock: this.clock, ids: this.ids });
	/** Commits fail with it, for as long as it is set. */
	failure: StorageError | undefined;
	/** Which do. */
	failing: (commit: KvCommit) => boolean = () => true;
	/** While set, commits wait for it. */
	held: Promise<void> | undefined;
	/** While set, the log cannot be read. */
	unreadable = false;
	/** Set: who watches the store hears of nothing from then on, as if it came later. */
	deaf = false;
	readonly kv: KvStore = wrapKv(this.state.kv, {
		watch: (prefix, options) => this.#heard(this.state.kv.watch(prefix, options)),
		commit: async (commit) => {
			if (this.failure !== undefined && this.failing(commit)) throw this.failure;
			await this.held;
			return await this.state.kv.commit(commit);
		},
	});
	readonly #bounds: DeadLetterBounds | undefined;
	bus!: EventBus;
	letters!: DeadLetters;
	#emitted = 0;

	private constructor(bounds: DeadLetterBounds | undefined) {
		this.#bounds = bounds;
	}

	static async open(bounds?: DeadLetterBounds): Promise<DurableRig> {
		const rig = new DurableRig(bounds);
		await rig.#start();
		await rig.register();
		await rig.create();
		return rig;
	}

	#readable(log: LogStore): LogStore {
		const read: LogStore["read"] = (query) => (this.unreadable ? Promise.reject(new Error("torn")) : log.read(query));
		return {
			capabilities: log.capabilities,
			epoch: log.epoch,
			bounds: () => log.bounds(),
			append: (...args) => log.append(...args),
			read,
			tail: (...args) => log.tail(...args),
			trim: (...args) => log.trim(...args),
		};
	}

	async *#heard<T>(batches: AsyncIterable<T>): AsyncGenerator<T> {
		for await (const batch of batches) if (!this.deaf) yield batch;
	}

	async #start(): Promise<void> {
		const { clock, ids, kv } = this;
		const answers = new FirstAnswers({ kv, clock, ids });
		const log = this.#readable(await this.state.log("events"));
		this.letters = openLetters({ kv, clock, ids, ...(this.#bounds && { bounds: this.#bounds }) });
		this.bus = new EventBus({ kv, log, clock, ids, answers, letters: this.letters, onFault: () => {} });
		this.bus.start();
	}

	/** The hub ends, and another one begins on what is stored. */
	async restart(): Promise<void> {
		await this.bus[Symbol.asyncDispose]();
		await this.#start();
	}

	async register(): Promise<void> {
		const writes = [{ key: keys.registration("reader"), value: Buffer.from("there") }];
		await this.kv.commit({ id: this.ids.next(), writes });
	}

	async create(): Promise<void> {
		const shown = create(DurableSubscriptionSchema, {
			name: "mine",
			patterns: ["n"],
			start: { from: { case: "everything", value: true } },
			maxDeliveries: 5,
			maxInFlight: 10_000,
		});
		await this.bus.durable.create({ pluginId: "reader", shown, start: { from: "everything" } });
	}

	/** Events whose subjects go on counting. */
	async emit(count: number, orderingKey = ""): Promise<void> {
		const records = Array.from({ length: count }, () => {
			const subject = String(this.#emitted++);
			const event = create(EventSchema, { type: "n", subject, orderingKey });
			return { id: `x/${subject}`, topic: "n", bytes: toBinary(EventSchema, event) };
		});
		for (let at = 0; at < count; at += 1000) await this.bus.log.append(records.slice(at, at + 1000));
	}

	consume(maxInFlight: number): Promise<ConsumerSession> {
		return this.bus.durable.consume(this.bus.durable.define("reader", "mine"), maxInFlight);
	}

	/** What the session is given once nothing more comes. */
	async collect(session: ConsumerSession): Promise<ConsumerOutput[]> {
		const outputs: ConsumerOutput[] = [];
		for (let round = 0; round < 60; round++) {
			await this.clock.advance(0);
			for (let output = session.collect(); output !== undefined; output = session.collect()) outputs.push(output);
		}
		return outputs;
	}

	async deliveries(session: ConsumerSession): Promise<EventDeliveryFields[]> {
		return deliveriesOf(await this.collect(session));
	}

	/** Emits so many events, and gives them up. */
	async bury(count: number, orderingKey = ""): Promise<readonly DeadLetter[]> {
		await this.emit(count, orderingKey);
		const session = await this.consume(10_000);
		for (let left = count; left > 0; ) {
			const deliveries = await this.deliveries(session);
			left -= deliveries.length;
			for (const { deliveryId } of deliveries) session.settle(deliveryId, { kind: "terminate", reason: "broken" });
			await session.stored();
		}
		session.close();
		await this.clock.advance(0);
		return this.lettersNow();
	}

	lettersNow(): readonly DeadLetter[] {
		return this.letters.list("reader", 1000, "").letters;
	}

	/** The subjects of the events among the dead letters, oldest first. */
	get buried(): string[] {
		return this.lettersNow().map((letter) => fromBinary(EventSchema, deadEventOf(letter)!.event).subject);
	}

	/** How many events are stored beside the log. */
	get returned(): number {
		const start = "subscription/returned/";
		return this.kv.range({ start, end: prefixEnd(start), limit: 1000 }).entries.length;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.bus[Symbol.asyncDispose]();
		await this.state[Symbol.asyncDispose]();
		expect(this.clock.pendingTimers).toBe(0);
	}
}

export function deliveriesOf(outputs: readonly ConsumerOutput[]): EventDeliveryFields[] {
	return outputs.flatMap((output) => (output.kind === "deliveries" ? output.deliveries : []));
}

export function subjectsOf(deliveries: readonly EventDeliveryFields[]): string[] {
	return deliveries.map(({ entry }) => fromBinary(EventDeliverySchema, entry).event!.subject);
}
