import type { Client } from "@connectrpc/connect";
import type { StoreService } from "#gen/qirvo/hub/v1/store_service_pb.js";
import type { ClientContext } from "./client-context.ts";
import { oldestRemembered, outcomeUnknown } from "./emit-sink.ts";
import { toClientError } from "./errors.ts";
import { breaksConnection, keepOpen } from "./keep-open.ts";
import type { OperationSink } from "./operation-sink.ts";
import type { PendingOperation } from "./pending-operation.ts";
import type { Connection } from "./session-loop.ts";

/** Calls under way at once. */
const MAX_CALLS = 64;

/**
 * Operations with one call each: for peers that cannot stream up, and for writes under a request id. After a loss the same holds as
 * for `OperationChannel`; a write under a request id is sent again for as long as the hub knows the id.
 */
export class OperationCalls implements OperationSink {
	readonly #context: ClientContext;
	readonly #client: Client<typeof StoreService>;
	readonly #queue: PendingOperation[] = [];
	#calls = 0;

	constructor(context: ClientContext, client: Client<typeof StoreService>) {
		this.#context = context;
		this.#client = client;
	}

	push(operation: PendingOperation): void {
		this.#queue.push(operation);
		if (this.#calls < MAX_CALLS) void this.#work();
	}

	async #work(): Promise<void> {
		this.#calls++;
		for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
			if (!next.settled) await this.#perform(next);
		}
		this.#calls--;
	}

	async #perform(operation: PendingOperation): Promise<void> {
		const { session, clock, random } = this.#context;
		const controller = new AbortController();
		operation.giveUp = () => controller.abort();
		const signal = controller.signal;
		const run = async (connection: Connection, attempt: AbortSignal) => {
			if (operation.settled) return;
			const { sentAt, fate } = operation;
			if (fate.requestId !== undefined && sentAt !== undefined && sentAt < oldestRemembered(connection, clock)) {
				operation.reject(outcomeUnknown());
				return;
			}
			operation.sentAt ??= clock.monotonic();
			try {
				await this.#call(operation, attempt);
			} catch (thrown) {
				const error = toClientError(thrown, attempt);
				if (!attempt.aborted && !breaksConnection(error)) operation.refused(error);
				else if (operation.lost(error)) throw error;
				else if (breaksConnection(error)) connection.lost(error);
			}
		};
		const error = await keepOpen({ session, clock, random, signal, run });
		operation.reject(error ?? session.failure);
	}

	async #call(operation: PendingOperation, signal: AbortSignal): Promise<void> {
		const client = this.#client;
		const requestId = operation.fate.requestId ?? "";
		const asked = operation.toMessage().operation;
		const options = { signal };
		switch (asked.case) {
			case "get":
				operation.gotEntry((await client.get(asked.value, options)).entry);
				break;
			case "set":
				operation.wrote((await client.set({ set: asked.value, requestId }, options)).result!);
				break;
			case "delete":
				operation.wrote((await client.delete({ delete: asked.value, requestId }, options)).result!);
				break;
			case "increment":
				operation.wrote((await client.increment({ increment: asked.value, requestId }, options)).result!);
				break;
			case "append":
				operation.wrote((await client.append({ append: asked.value, requestId }, options)).result!);
				break;
			case "transact":
				operation.transacted(await client.transact({ ...asked.value, requestId }, options));
				break;
		}
	}
}
