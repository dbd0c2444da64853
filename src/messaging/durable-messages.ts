import { fromBinary } from "@bufbuild/protobuf";
import { MessageSchema, Priority } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import type { Clock, IdSource } from "../clock/clock.ts";
import type { DeadLetter, DeadLetters } from "../dead-letters/dead-letters.ts";
import { HubError } from "../hub-error.ts";
import type { KvWrite } from "../state/kv-store.ts";
import type { AcceptanceListener } from "./accepted-message.ts";
import { expiryOf } from "./mailbox-record.ts";
import type { MessageDraft, PriorityClass } from "./message-draft.ts";
import type { MessageStore } from "./message-store.ts";
import type { MessagingCounters } from "./messaging-counters.ts";
import { isStored, QueuedMessage, type StoredMessage, type StoredPlace, unplaced } from "./queued-message.ts";
import type { Recipient } from "./recipient.ts";
import { contentDigest } from "./sent-ids.ts";
import { StampedMessage } from "./stamped-message.ts";
import { MAILBOX_ORIGIN } from "./stored-deliveries.ts";

export interface DurableMessagesOptions {
	readonly clock: Clock;
	readonly ids: IdSource;
	readonly store: MessageStore;
	readonly letters: DeadLetters;
	readonly counters: MessagingCounters;
}

/** Bytes of a message with all its fields, known or not: with its dead letter it must fit into one commit. */
const MAX_BYTES = 2 * 1024 * 1024;

const NO_WRITES: readonly KvWrite[] = [];

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
	 * Its place in the order is taken before this returns. Throws MAILBOX_FULL, ID_REUSED, MESSAGE_TOO_LARGE, STORAGE_UNAVAILABLE
	 * where too much waits to be stored; `told` is told of the storage's error.
	 */
	send(draft: MessageDraft, source: string, recipient: Recipient, told: AcceptanceListener): void {
		const { mailbox, pluginId } = recipient;
		const digest = draft.digest ?? (draft.id === "" ? "" : contentDigest(draft.sent));
		if (digest !== "") {
			if (mailbox.repeat(source, draft.id, digest, told)) {
				this.#counters.duplicates++;
				return;
			}
		}
		if (draft.wire.byteLength > MAX_BYTES) throw tooLarge();
		if (this.#store.queue.isFull) throw tooMuchWaits();
		const now = this.#clock.now();
		const id = draft.id === "" ? this.#ids.next() : draft.id;
		const stamp = { id, source, recipient: pluginId, hubTime: now, requiresResponse: false };
		const content = StampedMessage.of(draft, stamp);
		const order = {
			sequence: mailbox.nextSequence(),
			acceptTime: now,
			deliverTime: draft.deliverAt === undefined ? 0 : Math.max(0, Math.ceil(draft.deliverAt)),
			ttlMs: draft.ttlMs === undefined ? 0 : Math.max(1, Math.ceil(draft.ttlMs)),
			digest,
		};
		const stored = unplaced(order, false, told);
		const message = this.#message(id, source, draft.orderingKey, draft.priority, content.size, stored);
		recipient.expect(message);
		mailbox.add(message, content, NO_WRITES, recipient);
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
		const { mailbox } = recipient;
		const content = new StampedMessage(letter.item);
		const order = {
			sequence: mailbox.nextSequence(),
			acceptTime: this.#clock.now(),
			deliverTime: 0,
			ttlMs,
			digest: "",
		};
		const message = this.#message(
			id,
			source,
			orderingKey,
			classOf(original.priority),
			content.size,
			unplaced(order, false, undefined),
		);
		return new Promise((resolve, reject) => {
			const change = this.#letters.take(letter.pluginId, letter.id);
			try {
				recipient.expect(message);
			} catch (error) {
				change.settled(false);
				throw error;
			}
			mailbox.add(message, content, change.writes, {
				stored: () => {
					const disposition = recipient.stored(message);
					change.settled(true);
					resolve();
					return disposition;
				},
				notStored: (_message, error) => {
					recipient.notStored(message, error);
					change.settled(false);
					reject(error);
				},
			});
		});
	}

	#message(
		id: string,
		source: string,
		orderingKey: string,
		priority: PriorityClass,
		size: number,
		stored: StoredPlace,
	): StoredMessage {
		const expiresAt = expiryOf(stored, this.#clock);
		const fields = { id, source, orderingKey, priority, size, expiresAt, bytes: undefined, request: undefined, stored };
		const message: QueuedMessage = new QueuedMessage(fields);
		if (!isStored(message)) throw new Error("a durable message has its place");
		return message;
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
