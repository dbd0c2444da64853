import { type Client, createClient } from "@connectrpc/connect";
import { Durability, MessagingService } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import type { ClientContext } from "./client-context.ts";
import { toDuration } from "./durations.ts";
import { HubClientError, toClientError } from "./errors.ts";
import { breaksConnection, keepOpen } from "./keep-open.ts";
import type { SendEntry, SendSink } from "./send-sink.ts";
import { decodeSend } from "./send-wire.ts";
import type { Connection } from "./session-loop.ts";

/**
 * Sends with one call a message or request, for peers that cannot stream up. After a loss the same holds as for
 * `SendChannel`.
 */
export class SendCalls implements SendSink {
	readonly #context: ClientContext;
	readonly #client: Client<typeof MessagingService>;
	readonly #calls = new Map<SendEntry, AbortController>();

	constructor(context: ClientContext) {
		this.#context = context;
		this.#client = createClient(MessagingService, context.transport);
	}

	push(entry: SendEntry): void {
		void this.#send(entry);
	}

	cancel(entry: SendEntry): void {
		this.#calls.get(entry)?.abort();
	}

	async #send(entry: SendEntry): Promise<void> {
		const { session, clock, random } = this.#context;
		const controller = new AbortController();
		this.#calls.set(entry, controller);
		const run = async (connection: Connection, signal: AbortSignal) => {
			if (entry.settled) return;
			entry.sentAt ??= clock.monotonic();
			try {
				await this.#call(entry, connection, signal);
			} catch (thrown) {
				const error = toClientError(thrown, signal);
				if (!signal.aborted && !breaksConnection(error)) entry.reject(error);
				else if (entry.idempotent || entry.durable === true) throw error;
				else entry.reject(new HubClientError("CONNECTION_LOST", "the connection broke before the answer"));
				if (breaksConnection(error)) connection.lost(error);
			}
		};
		const error = await keepOpen({ session, clock, random, signal: controller.signal, run });
		this.#calls.delete(entry);
		if (!entry.settled) entry.reject(error ?? session.failure);
	}

	async #call(entry: SendEntry, { info }: Connection, signal: AbortSignal): Promise<void> {
		const { request } = entry;
		const { to, message } = decodeSend(entry.range);
		const { clock, callTimeoutMs } = this.#context;
		if (request === undefined) {
			entry.durable ??= info.features?.durableMessages ?? false;
			const durability = entry.durable ? Durability.DURABLE : Durability.TRANSIENT;
			entry.accepted(await this.#client.send({ to, message, durability }, { signal, timeoutMs: callTimeoutMs }));
		} else {
			const timeout = toDuration(Math.max(1, request.deadline - clock.monotonic()));
			entry.answered(await this.#client.request({ to, message, timeout }, { signal }));
		}
	}
}
