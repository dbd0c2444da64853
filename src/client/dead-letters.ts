import { type Client, createClient } from "@connectrpc/connect";
import { type DeadLetter as DeadLetterMessage, MessagingService } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import type { ClientContext } from "./client-context.ts";
import { toDate } from "./durations.ts";
import { fromEntryError, type HubClientError, toClientError } from "./errors.ts";
import { type Data, dataOf } from "./payload.ts";

/** A durable message that could not be delivered. */
export interface DeadLetter<T = Data> {
	/** Names it for `get`, `redrive` and `delete`. */
	readonly id: string;
	/** The plugin that should have received it. */
	readonly pluginId: string;
	/** The message's own id. */
	readonly messageId: string;
	readonly type: string;
	/** The plugin that sent it. */
	readonly source: string;
	readonly attributes: Readonly<Record<string, string>>;
	/** How often it was delivered. */
	readonly attempts: number;
	/** Why it is here. */
	readonly reason: string;
	/** When it became a dead letter. */
	readonly time: Date | undefined;
	/** Undefined in lists. */
	readonly data: T | undefined;
}

export interface DeadLetterOptions {
	/** Whose; for operators. Default: the client's own. */
	readonly pluginId?: string;
	readonly signal?: AbortSignal;
}

/** What became of letters that were put back or deleted. */
export interface DeadLetterOutcome {
	readonly ids: readonly string[];
	/** Those that were left as they are, each with why. */
	readonly failures: readonly { readonly id: string; readonly error: HubClientError }[];
	/** With `all`: whether others are left. */
	readonly more: boolean;
}

/** Ids of letters, or the 1,000 oldest. */
export type DeadLetterSelection = string | readonly string[] | { readonly all: true };

/** The durable messages that this plugin could not be delivered. */
export class DeadLetters {
	readonly #context: ClientContext;
	readonly #client: Client<typeof MessagingService>;

	constructor(context: ClientContext) {
		this.#context = context;
		this.#client = createClient(MessagingService, context.transport);
	}

	/** All of them, oldest first, without their data; asks for a page at a time. */
	async *list(options: DeadLetterOptions = {}): AsyncGenerator<DeadLetter, void, undefined> {
		const { pluginId = "", signal } = options;
		let pageToken = "";
		do {
			const request = { pluginId, pageToken, pageSize: 100 };
			const page = await this.#call(() => this.#client.listDeadLetters(request, this.#options(signal)), signal);
			for (const letter of page.deadLetters) yield describe(letter, false);
			pageToken = page.nextPageToken;
		} while (pageToken !== "");
	}

	/** One, with its data. Rejects with DEAD_LETTER_NOT_FOUND. */
	async get<T = Data>(id: string, options: DeadLetterOptions = {}): Promise<DeadLetter<T>> {
		const { pluginId = "", signal } = options;
		const response = await this.#call(
			() => this.#client.getDeadLetter({ pluginId, id }, this.#options(signal)),
			signal,
		);
		return describe(response.deadLetter!, true) as DeadLetter<T>;
	}

	/** Puts them back into the mailbox, as messages that were never delivered. None is put back twice. */
	async redrive(selection: DeadLetterSelection, options: DeadLetterOptions = {}): Promise<DeadLetterOutcome> {
		const { pluginId = "", signal } = options;
		const request = { pluginId, ...chosen(selection) };
		return outcomeOf(await this.#call(() => this.#client.redriveDeadLetters(request, this.#options(signal)), signal));
	}

	/** Removes them for good. */
	async delete(selection: DeadLetterSelection, options: DeadLetterOptions = {}): Promise<DeadLetterOutcome> {
		const { pluginId = "", signal } = options;
		const request = { pluginId, ...chosen(selection) };
		return outcomeOf(await this.#call(() => this.#client.deleteDeadLetters(request, this.#options(signal)), signal));
	}

	async #call<R>(call: () => Promise<R>, signal: AbortSignal | undefined): Promise<R> {
		try {
			return await call();
		} catch (error) {
			throw toClientError(error, signal);
		}
	}

	#options(signal: AbortSignal | undefined) {
		return { timeoutMs: this.#context.callTimeoutMs, ...(signal && { signal }) };
	}
}

function chosen(selection: DeadLetterSelection): { ids: string[]; all: boolean } {
	if (typeof selection === "string") return { ids: [selection], all: false };
	return "all" in selection ? { ids: [], all: true } : { ids: [...selection], all: false };
}

function outcomeOf(response: {
	readonly ids: string[];
	readonly failures: readonly { id: string; error?: Parameters<typeof fromEntryError>[0] }[];
	readonly more: boolean;
}): DeadLetterOutcome {
	const { ids, more } = response;
	const failures = response.failures.map(({ id, error }) => ({ id, error: fromEntryError(error!) }));
	return { ids, failures, more };
}

function describe({ id, pluginId, message, reason, time }: DeadLetterMessage, withData: boolean): DeadLetter {
	return {
		id,
		pluginId,
		reason,
		messageId: message?.id ?? "",
		type: message?.type ?? "",
		source: message?.source ?? "",
		attributes: message?.attributes ?? {},
		attempts: message?.attempt ?? 0,
		time: time && toDate(time),
		data: withData ? dataOf(message?.payload) : undefined,
	};
}
