import { fromBinary } from "@bufbuild/protobuf";
import { MessageSchema, Priority } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import type { Clock, IdSource } from "../clock/clock.ts";
import type { DeadLetter, DeadLetters } from "../dead-letters/dead-letters.ts";
import { HubError } from "../hub-error.ts";
import type { KvWrite } from "../state/kv-store.ts";
import type { AcceptedMessage } from "./accepted-message.ts";
import { expiryOf } from "./mailbox-record.ts";
import type { MessageDraft, PriorityClass } from "./message-draft.ts";
import type { MessageStore } from "./message-store.ts";
import type { MessagingCounters } from "./messaging-counters.ts";
import { QueuedMessage, type StoredPlace } from "./queued-message.ts";
import type { Recipient } from "./recipient.ts";
import { contentDigest } from "./sent-ids.ts";
import { stampMessage } from "./stamped-message.ts";
import { MAILBOX_ORIGIN } from "./stored-deliveries.ts";
import { isStored, type StoredMessage } from "./stored-message.ts";

export interface DurableMessagesOptions {
	readonly clock: Clock;
	readonly ids: IdSource;
	readonly store: MessageStore;
	readonly letters: DeadLetters;
	readonly counters: MessagingCounters;
}

/** Bytes of a message with all its fields, known or not: with its dead letter it must fit into one commit. */
const MAX_BYTES = 2 * 1024 * 1024;

/** How long a sender should wait while more is being stored than should wait for it, in milliseconds. */
const FULL_PAUSE_MS = 100;

/** Takes durable messages: each is stored before its sender is told. */
export class DurableMessages {
	readonly #clock: Clock;
	readonly #ids: IdSource;
	readonly #store: MessageStore;
	readonly #letters: DeadLetters;
	readonly #counters: MessagingCounters;

	constructor(options: DurableMessagesOptions) {
		this.#clock = options.clock;
		this.#ids = options.ids;
		this.#store = options.store;
		this.#letters = options.letters;
		this.#counters = options.counters;
	}

	/**
	 * Its place in the order is taken before this returns. Rejects with MAILBOX_FULL, ID_REUSED, MESSAGE_TOO_LARGE, STORAGE_UNAVAILABLE where too
	 * much waits to be stored, and with the storage's error.
	 */
	send(draft: MessageDraft, source: string, recipient: Recipient): Promise<AcceptedMessage> {
		const { stored: mailbox, pluginId } = recipient;
		const digest = draft.digest ?? (draft.id === "" ? "" : contentDigest(draft.sent));
		if (digest !== "") {
			const first = mailbox.find(source, draft.id, digest);
			if (first !== undefined) return this.#repeat(first);
		}
		if (draft.wire.byteLength > MAX_BYTES) throw tooLarge();
		if (this.#store.queue.isFull) throw tooMuchWaits();
		const now = this.#clock.now();
		const id = draft.id === "" ? this.#ids.next() : draft.id;
		const bytes = stampMessage(draft, { id, source, recipient: pluginId, hubTime: now, requiresResponse: false });
		const ttlMs = draft.ttlMs === undefined ? 0 : Math.max(1, Math.ceil(draft.ttlMs));
		const deliverTime = draft.deliverAt === undefined ? 0 : Math.max(0, Math.ceil(draft.deliverAt));
		const { priority, orderingKey } = draft;
		const message = this.#message(
			{ id, source, priority, orderingKey, bytes },
			{ acceptTime: now, deliverTime, ttlMs, digest },
			recipient,
		);
		const { promise, resolve, reject } = Promise.withResolvers<AcceptedMessage>();
		this.#put(message, recipient, [], (accepted, error) => {
			if (accepted === undefined) {
				mailbox.forget(message);
				reject(error);
				return;
			}
			this.#counters.sent++;
			mailbox.know(message, accepted.disposition);
			resolve(accepted);
		});
		mailbox.know(message, promise);
		return promise;
	}

	/**
	 * Puts a dead letter back into the mailbox that it came from, as a new message. Rejects with DEAD_LETTER_NOT_FOUND,
	 * MAILBOX_FULL and the storage's error; the letter then stays.
	 */
	redrive(letter: DeadLetter, recipient: Recipient): Promise<void> {
		const original = fromBinary(MessageSchema, letter.item);
		const ttlMs =
			original.ttl === undefined ? 0 : Math.ceil(Number(original.ttl.seconds) * 1000 + original.ttl.nanos / 1e6);
		const { id, source, orderingKey } = original;
		const message = this.#message(
			{ id, source, orderingKey, priority: classOf(original.priority), bytes: letter.item },
			{ acceptTime: this.#clock.now(), deliverTime: 0, ttlMs, digest: "" },
			recipient,
		);
		return new Promise((resolve, reject) => {
			const change = this.#letters.take(letter.pluginId, letter.id);
			try {
				this.#put(message, recipient, change.writes, (accepted, error) => {
					change.settled(accepted !== undefined);
					if (accepted === undefined) reject(error);
					else resolve();
				});
			} catch (error) {
				change.settled(false);
				throw error;
			}
		});
	}

	/** Refuses with MAILBOX_FULL; `settled` is told what the sender is to know, or why nothing was stored. */
	#put(
		message: StoredMessage,
		recipient: Recipient,
		also: readonly KvWrite[],
		settled: (accepted: AcceptedMessage | undefined, error?: unknown) => void,
	): void {
		recipient.expect(message);
		recipient.stored.add(message, also, (error) => {
			if (error !== undefined) {
				recipient.giveUp(message);
				settled(undefined, error);
				return;
			}
			settled({ id: message.id, disposition: recipient.arrived(message), duplicate: false });
		});
	}

	#message(
		fields: Pick<QueuedMessage, "id" | "source" | "orderingKey" | "priority"> & { readonly bytes: Uint8Array },
		place: Omit<StoredPlace, "sequence" | "noted" | "block" | "place" | "known">,
		recipient: Recipient,
	): StoredMessage {
		const { acceptTime, deliverTime, ttlMs, digest } = place;
		const sequence = recipient.stored.nextSequence();
		const stored: StoredPlace = {
			sequence,
			acceptTime,
			deliverTime,
			ttlMs,
			digest,
			noted: false,
			block: undefined,
			place: 0,
			known: undefined,
		};
		const { id, source, orderingKey, priority, bytes } = fields;
		const size = bytes.byteLength;
		const expiresAt = expiryOf(stored, this.#clock);
		const message: QueuedMessage = new QueuedMessage({
			id,
			source,
			orderingKey,
			priority,
			bytes,
			size,
			expiresAt,
			request: undefined,
			stored,
		});
		if (!isStored(message)) throw new Error("a durable message has its place");
		return message;
	}

	async #repeat(first: AcceptedMessage | Promise<AcceptedMessage>): Promise<AcceptedMessage> {
		this.#counters.duplicates++;
		return { ...(await first), duplicate: true };
	}
}

/** Whether the letter is one that `redrive` can put back. */
export function isFromMailbox(letter: DeadLetter): boolean {
	return letter.origin === MAILBOX_ORIGIN;
}

function classOf(priority: Priority | undefined): PriorityClass {
	if (priority === Priority.HIGH) return 0;
	return priority === Priority.LOW ? 2 : 1;
}

function tooLarge(): HubError {
	return new HubError("MESSAGE_TOO_LARGE", `a durable message has at most ${MAX_BYTES} bytes`, {
		metadata: { limit: String(MAX_BYTES) },
	});
}

function tooMuchWaits(): HubError {
	return new HubError("STORAGE_UNAVAILABLE", "more waits to be stored than should; try again", {
		retryAfterMs: FULL_PAUSE_MS,
		metadata: { outcome: "not-written" },
	});
}
