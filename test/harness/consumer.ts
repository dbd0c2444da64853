import type { ConnectError } from "@connectrpc/connect";
import type { ConsumeRequest } from "#gen/qirvo/hub/v1/durable_subscriptions_pb.js";
import type { ConsumeResponse, EventDelivery } from "#gen/qirvo/hub/v1/event_service_pb.js";
import type { DeliverySettlement } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { Mailbox } from "../../src/streams/mailbox.ts";
import type { Clients } from "./hub.ts";

type Up = Parameters<Clients["events"]["consume"]>[0] extends AsyncIterable<infer F> ? F : ConsumeRequest;
type Outcome = DeliverySettlement["outcome"];

/** A `Consume` session whose frames are gathered in the background. */
export class Consumer {
	readonly frames: ConsumeResponse["frame"][] = [];
	readonly done: Promise<ConnectError | undefined>;
	/** Deliveries that the test has settled. */
	settledByTest = 0;
	readonly #up = new Mailbox<Up>({ maxItems: 100_000 });
	readonly #abort = new AbortController();

	constructor(clients: Clients, name: string, maxInFlight = 64) {
		this.#up.push({ frame: { case: "open", value: { name, maxInFlight } } });
		this.done = this.#read(clients);
	}

	get deliveries(): EventDelivery[] {
		return this.frames.flatMap((frame) => (frame.case === "batch" ? frame.value.deliveries : []));
	}

	get subjects(): string[] {
		return this.deliveries.map(({ event }) => event!.subject);
	}

	get settled(): string[] {
		return this.frames.flatMap((frame) => (frame.case === "settled" ? frame.value.deliveryIds : []));
	}

	has(kind: ConsumeResponse["frame"]["case"]): boolean {
		return this.frames.some((frame) => frame.case === kind);
	}

	settle(deliveries: readonly EventDelivery[], outcome: Outcome = { case: "acknowledge", value: true }): void {
		const value = { deliveries: deliveries.map(({ deliveryId }) => ({ deliveryId, outcome })) };
		this.#up.push({ frame: { case: "settlement", value } });
	}

	credit(maxInFlight: number): void {
		this.#up.push({ frame: { case: "credit", value: { maxInFlight } } });
	}

	/** Ends the sending side; what was settled is still confirmed. */
	async finish(): Promise<ConnectError | undefined> {
		this.#up.close();
		return await this.done;
	}

	/** Drops the stream. */
	async leave(): Promise<void> {
		this.#abort.abort();
		await this.done;
	}

	async #read(clients: Clients): Promise<ConnectError | undefined> {
		try {
			for await (const { frame } of clients.events.consume(this.#up, { signal: this.#abort.signal })) {
				this.frames.push(frame);
			}
			return undefined;
		} catch (error) {
			return error as ConnectError;
		} finally {
			this.#up.close();
		}
	}
}
