import { type Linked, LinkedList } from "./linked-list.ts";
import type { QueuedMessage } from "./queued-message.ts";

/** What one sender has waiting, oldest first. */
class SenderQueue implements Linked {
	readonly source: string;
	readonly messages = new LinkedList<QueuedMessage>();
	previous: this | undefined = undefined;
	following: this | undefined = undefined;

	constructor(source: string) {
		this.source = source;
	}
}

/**
 * The messages of one priority that may be delivered now. Senders take turns, one message each; a sender's own messages
 * leave in the order of their arrival. A sender with nothing waiting is forgotten and joins at the end of the round.
 */
export class SenderRotation {
	readonly #senders = new Map<string, SenderQueue>();
	readonly #round = new LinkedList<SenderQueue>();

	get isEmpty(): boolean {
		return this.#round.isEmpty;
	}

	/** Senders that have something waiting. */
	get senders(): number {
		return this.#senders.size;
	}

	/** All of them, in no order. */
	*messages(): Generator<QueuedMessage, void, undefined> {
		for (const sender of this.#senders.values()) yield* sender.messages;
	}

	/** Puts a message in its place by `sequence`, which for one that comes back is before those that came later. */
	add(message: QueuedMessage): void {
		let sender = this.#senders.get(message.source);
		if (sender === undefined) {
			sender = new SenderQueue(message.source);
			this.#senders.set(message.source, sender);
			this.#round.append(sender);
		}
		const { messages } = sender;
		let place: QueuedMessage | undefined;
		if (messages.last !== undefined && messages.last.sequence > message.sequence) {
			place = messages.first;
			while (place !== undefined && place.sequence < message.sequence) place = place.following;
		}
		messages.insertBefore(message, place);
	}

	/** The next message in turn. */
	take(): QueuedMessage | undefined {
		const sender = this.#round.first;
		const message = sender?.messages.first;
		if (sender === undefined || message === undefined) return undefined;
		sender.messages.remove(message);
		this.#round.remove(sender);
		if (sender.messages.isEmpty) this.#senders.delete(sender.source);
		else this.#round.append(sender);
		return message;
	}

	/** `message` must be here. Its sender keeps its turn. */
	remove(message: QueuedMessage): void {
		const sender = this.#senders.get(message.source);
		if (sender === undefined) return;
		sender.messages.remove(message);
		if (!sender.messages.isEmpty) return;
		this.#round.remove(sender);
		this.#senders.delete(sender.source);
	}
}
