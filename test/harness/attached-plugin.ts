import type { MessageInitShape } from "@bufbuild/protobuf";
import type { AttachRequestSchema, Delivery } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import type { Clients } from "./hub.ts";
import { Outbox } from "./outbox.ts";

type Up = MessageInitShape<typeof AttachRequestSchema>;

const CREDIT = 1000;

/** A plugin that is attached, answers every request, and acknowledges every message once `took` has been told of it. */
export class AttachedPlugin {
	/** Settles with the session, however it ended. */
	readonly ended: Promise<void>;
	readonly ready: Promise<void>;
	readonly #took: (message: NonNullable<Delivery["message"]>) => void;
	readonly #up = new Outbox<Up>({ frame: { case: "open", value: { maxInFlight: CREDIT } } });

	constructor({ messaging }: Clients, took: (message: NonNullable<Delivery["message"]>) => void) {
		this.#took = took;
		const ready = Promise.withResolvers<void>();
		this.ready = ready.promise;
		this.ended = this.#read(messaging.attach(this.#up), ready.resolve).catch(() => {});
		void this.ended.then(() => ready.reject(new Error("the session ended before it was ready")));
		this.ready.catch(() => {});
	}

	/** Takes no more deliveries, until it is called with false. */
	pause(isPaused: boolean): void {
		this.#up.push({ frame: { case: "credit", value: { maxInFlight: isPaused ? 0 : CREDIT } } });
	}

	/** Wants no more. */
	leave(): void {
		this.#up.end();
	}

	async #read(stream: ReturnType<Clients["messaging"]["attach"]>, isReady: () => void): Promise<void> {
		for await (const { frame } of stream) {
			if (frame.case === "ready") isReady();
			if (frame.case !== "batch") continue;
			const handled: string[] = [];
			for (const { deliveryId, message } of frame.value.deliveries) {
				if (message!.requiresResponse) {
					this.#up.push({ frame: { case: "reply", value: { deliveryId, reply: { success: true } } } });
				} else {
					this.#took(message!);
					handled.push(deliveryId);
				}
			}
			if (handled.length === 0) continue;
			const outcome = { case: "acknowledge", value: true } as const;
			const deliveries = handled.map((deliveryId) => ({ deliveryId, outcome }));
			this.#up.push({ frame: { case: "settlement", value: { deliveries } } });
		}
	}
}
