import { type Client, createClient } from "@connectrpc/connect";
import { type DeadLetter as DeadLetterMessage, MessagingService } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import type { ClientContext } from "./client-context.ts";
import { toDate } from "./durations.ts";
import { fromEntryError, type HubClientError, toClientError } from "./errors.ts";
import type { FeedPosition } from "./feed-position.ts";
import { type Data, dataOf } from "./payload.ts";

/** What messages and events that could not be delivered have in common. */
interface Undelivered<T> {
	/** Names it for `get`, `redrive` and `delete`. */
	readonly id: string;
	/** The plugin that should have received it. */
	readonly pluginId: string;
	/** Where it came from: `mailbox`, or `subscription/` and the durable subscription's name. */
	readonly origin: string;
	readonly type: string;
	/** The plugin that sent or published it. */
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

/** A durable message that could not be delivered. */
export interface DeadMessage<T = Data> extends Undelivered<T> {
	readonly kind: "message";
	/** The message's own id. */
	readonly messageId: string;
}

/** An event that a durable subscription gave up. */
export interface DeadEvent<T = Data> extends Undelivered<T> {
	readonly kind: "event";
	/** The event's own id. */
	readonly eventId: string;
	/** The name of the durable subscription. */
	readonly subscription: string;
	readonly subject: string;
	readonly orderingKey: string;
	/** Its place in the log, which may no longer have it. */
	readonly position: FeedPosition;
}

export type DeadLetter<T = Data> = DeadMessage<T> | DeadEvent<T>;

export interface DeadLetterOptions {
	/** Whose; for operators. Default: the client's own. */
	readonly pluginId?: string;
	readonly signal?: AbortSignal;
}

export interface DeadLetterListOptions extends DeadLetterOptions {
	/** Only those whose `origin` is this one. Default: all. */
	readonly origin?: string;
}

/** What became of letters that were put back or deleted. */
export interface DeadLetterOutcome {
	readonly ids: readonly string[];
	/** Those that were left as they are, each with why. */
	readonly failures: readonly { readonly id: string; readonly error: HubClientError }[];
	/** With `all`: whether others are left. */
	readonly more: boolean;
}

/** Ids of letters, or the 1,000 oldest; of those, only the ones whose `origin` is the given one. */
export type DeadLetterSelection = string | readonly string[] | { readonly all: true; readonly origin?: string };

/** The durable messages, and the events of durable subscriptions, that this plugin could not be delivered. */
export class DeadLetters {
	readonly #context: ClientContext;
	readonly #client: Client<typeof MessagingService>;

	constructor(context: ClientContext) {
		this.#context = context;
		this.#client = createClient(MessagingService, context.transport);
	}

	/** All of them, oldest first, without their data; asks for a page at a time. */
	async *list(options: DeadLetterListOptions = {}): AsyncGenerator<DeadLetter, void, undefined> {
		const { pluginId = "", origin = "", signal } = options;
		let pageToken = "";
		do {
			const request = { pluginId, origin, pageToken, pageSize: 100 };
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

	/**
	 * Puts them back where they came from, messages into the mailbox and events into their durable subscription, as what was
	 * never delivered. None is put back twice.
	 */
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

function chosen(selection: DeadLetterSelection): { ids: string[]; all: boolean; origin?: string } {
	if (typeof selection === "string") return { ids: [selection], all: false };
	if (!("all" in selection)) return { ids: [...selection], all: false };
	return { ids: [], all: true, origin: selection.origin ?? "" };
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

function describe(letter: DeadLetterMessage, withData: boolean): DeadLetter {
	const { id, pluginId, origin, reason, message, event } = letter;
	const { type = "", source = "", attributes = {}, payload } = message ?? event ?? {};
	const facts = {
		...{ id, pluginId, origin, reason, type, source, attributes },
		attempts: message?.attempt ?? event?.attempts ?? 0,
		time: letter.time && toDate(letter.time),
		data: withData ? dataOf(payload) : undefined,
	};
	if (event === undefined) return { ...facts, kind: "message", messageId: message?.id ?? "" };
	const { subscription, subject, orderingKey, epoch, sequence } = event;
	const position = { epoch, sequence };
	return { ...facts, kind: "event", eventId: event.id, subscription, subject, orderingKey, position };
}
