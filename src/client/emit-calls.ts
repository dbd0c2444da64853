import { type Client, createClient } from "@connectrpc/connect";
import { EventService } from "#gen/qirvo/hub/v1/event_service_pb.js";
import type { ClientContext } from "./client-context.ts";
import { type EmitEntry, type EmitSink, isForgotten, oldestRemembered, outcomeUnknown } from "./emit-sink.ts";
import { toClientError } from "./errors.ts";
import { breaksConnection, keepOpen } from "./keep-open.ts";
import type { Connection } from "./session-loop.ts";

/** Calls under way at once. */
const MAX_CALLS = 16;

/**
 * Publishes with one call an event, for peers that cannot stream up. A call that the connection broke is made again under
 * the same id, so that the hub stores the event once.
 */
export class EmitCalls implements EmitSink {
	readonly #context: ClientContext;
	readonly #client: Client<typeof EventService>;
	#queue: EmitEntry[] = [];
	#calls = 0;

	constructor(context: ClientContext) {
		this.#context = context;
		this.#client = createClient(EventService, context.transport);
	}

	push(entry: EmitEntry): void {
		this.#queue.push(entry);
		if (this.#calls < MAX_CALLS) void this.#work();
	}

	async #work(): Promise<void> {
		this.#calls++;
		for (let entry = this.#queue.shift(); entry !== undefined; entry = this.#queue.shift()) {
			if (!entry.abandoned) await this.#emit(entry);
		}
		this.#calls--;
	}

	async #emit(entry: EmitEntry): Promise<void> {
		const { session, clock, random, callTimeoutMs } = this.#context;
		const run = async (connection: Connection, signal: AbortSignal) => {
			if (isForgotten(entry, oldestRemembered(connection, clock))) return entry.reject(outcomeUnknown());
			entry.sentAt ??= clock.monotonic();
			try {
				const response = await this.#client.emit(
					{ event: entry.event.toMessage() },
					{ signal, timeoutMs: callTimeoutMs },
				);
				const { epoch = "", sequence = 0n } = response.position ?? {};
				entry.resolve({ epoch, sequence }, response.duplicate);
			} catch (thrown) {
				const error = toClientError(thrown, signal);
				if (signal.aborted || breaksConnection(error)) throw error;
				entry.reject(error);
			}
		};
		const error = await keepOpen({ session, clock, random, signal: session.signal, run });
		entry.reject(error ?? session.failure);
	}
}
