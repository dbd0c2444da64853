import type { Clock, IdSource } from "../clock/clock.ts";
import type { DeadLetter, DeadLetters } from "../dead-letters/dead-letters.ts";
import { HubError } from "../hub-error.ts";
import type { CommitQueue } from "../state/commit-queue.ts";
import type { KvStore } from "../state/kv-store.ts";
import { DeadlineQueue } from "../streams/deadline-queue.ts";
import type { AcceptanceListener, AcceptedMessage } from "./accepted-message.ts";
import {
	type InstanceLeases,
	pluginIdResolver,
	type RecipientAddress,
	type RecipientDirectory,
	type RecipientResolver,
} from "./address.ts";
import { DEFAULT_POLICY, type DeliveryPolicy } from "./delivery-policy.ts";
import { DurableMessages, isFromMailbox } from "./durable-messages.ts";
import type { MessageDraft } from "./message-draft.ts";
import { MessageMemory } from "./message-memory.ts";
import { MessageStore, type MessageStoreOptions } from "./message-store.ts";
import { MessagingCounters } from "./messaging-counters.ts";
import { PendingReplies, type PendingReply, type ReplyOutcome } from "./pending-replies.ts";
import { QueuedMessage } from "./queued-message.ts";
import { ReceivingSession, recipientGone } from "./receiving-session.ts";
import { Recipient } from "./recipient.ts";
import { DEFAULT_MAILBOX_BOUNDS, type MailboxBounds } from "./recipient-mailbox.ts";
import { SentIds, sendDigest } from "./sent-ids.ts";
import { stampMessage, withAttribute } from "./stamped-message.ts";

export interface RouterOptions {
	readonly clock: Clock;
	readonly ids: IdSource;
	readonly directory: RecipientDirectory;
	readonly leases: InstanceLeases;
	readonly kv: KvStore;
	/** Shared with whoever else writes messages, so that one commit is on its way at a time. */
	readonly queue: CommitQueue;
	readonly letters: DeadLetters;
	/** Asked in this order. Default: plugin ids only. */
	readonly resolvers?: readonly RecipientResolver[];
	/** Of each recipient's mailbox. */
	readonly mailbox?: Partial<MailboxBounds>;
	/** Bytes that messages may take of this process, of all recipients together. Default 32 MiB. */
	readonly memoryBytes?: number;
	/** Requests that one plugin may have without an answer. Default 10,000. */
	readonly maxPendingPerCaller?: number;
	/** Of what is stored. */
	readonly storage?: Pick<MessageStoreOptions, "idWindowMs" | "maxMarks" | "cacheBytes">;
	/** A background task has failed; it is not tried again before the next start. */
	readonly onFault?: (what: string, error: unknown) => void;
}

/** A shorter time to live counts as this, so that no message expires while it is being accepted. */
const MIN_TTL_MS = 1;

/** Receiving sessions that one plugin may have. */
const MAX_SESSIONS_PER_PLUGIN = 64;

/**
 * Takes messages from senders that were let through, and brings them to the sessions of their recipients.
 *
 * A transient message lives in memory, is delivered at most once unless the recipient itself asks for another attempt, and is
 * refused where nobody is attached. A durable one is stored first, and waits for its recipient however long that takes.
 */
export class Router implements Disposable {
	readonly counters = new MessagingCounters();
	readonly #clock: Clock;
	readonly #ids: IdSource;
	readonly #directory: RecipientDirectory;
	readonly #leases: InstanceLeases;
	readonly #resolvers: readonly RecipientResolver[];
	readonly #bounds: MailboxBounds;
	readonly #deadlines: DeadlineQueue;
	readonly #pending: PendingReplies;
	readonly #sent: SentIds<AcceptedMessage>;
	readonly #recipients = new Map<string, Recipient>();
	readonly #leaseEnds: Disposable;
	readonly #removals: Disposable;
	readonly store: MessageStore;
	readonly memory: MessageMemory;
	readonly letters: DeadLetters;
	readonly #durable: DurableMessages;
	readonly #onFault: (what: string, error: unknown) => void;
	#disposed = false;

	constructor(options: RouterOptions) {
		this.#clock = options.clock;
		this.#ids = options.ids;
		this.#directory = options.directory;
		this.#leases = options.leases;
		this.#resolvers = options.resolvers ?? [pluginIdResolver];
		this.#bounds = { ...DEFAULT_MAILBOX_BOUNDS, ...options.mailbox };
		this.#deadlines = new DeadlineQueue(options.clock);
		this.#pending = new PendingReplies(this.#deadlines, options.maxPendingPerCaller);
		this.#sent = new SentIds(options.clock);
		this.#leaseEnds = options.leases.onEnd((pluginId, instanceId) => this.#endInstance(pluginId, instanceId));
		this.#removals = options.directory.onRemoved((pluginId) => this.#remove(pluginId));
		this.#onFault = options.onFault ?? (() => {});
		const { clock, ids, kv, queue, letters } = options;
		this.letters = letters;
		this.memory = new MessageMemory(options.memoryBytes);
		this.store = new MessageStore({ ...options.storage, kv, queue, clock, ids });
		this.#durable = new DurableMessages({ clock, ids, letters, store: this.store, counters: this.counters });
	}

	/** Takes back the durable messages that are stored. Once, before anything else; `directory` must be complete. */
	start(): void {
		for (const [pluginId, messages] of this.store.load()) {
			if (this.#directory.lookup(pluginId) === "unknown") this.#remove(pluginId);
			else this.#recipient(pluginId).restore(messages);
		}
		for (const pluginId of [...this.letters.pluginIds()]) {
			if (this.#directory.lookup(pluginId) === "unknown") this.#remove(pluginId);
		}
	}

	/** Messages that wait, of all plugins, and their bytes. */
	get backlog(): { readonly messages: number; readonly bytes: number } {
		let messages = 0;
		let bytes = 0;
		for (const recipient of this.#recipients.values()) {
			messages += recipient.backlog;
			bytes += recipient.backlogBytes;
		}
		return { messages, bytes };
	}

	/** What is held now; all zero once nothing is under way. */
	get held(): { readonly recipients: number; readonly pendingReplies: number; readonly deadlines: number } {
		return {
			recipients: this.#recipients.size,
			pendingReplies: this.#pending.size,
			deadlines: this.#deadlines.size,
		};
	}

	/** The id of the plugin that an address leads to, whether or not it exists. Refuses with NO_ROUTE. */
	resolve(address: RecipientAddress, sender: string): string {
		for (const resolver of this.#resolvers) {
			const pluginId = resolver.resolve(address, sender);
			if (pluginId !== undefined) return pluginId;
		}
		throw noRoute(address, `the ${address.kind} leads to no plugin`);
	}

	/** Whether there is such a plugin, attached or not. */
	knows(pluginId: string): boolean {
		return this.#directory.lookup(pluginId) !== "unknown";
	}

	/**
	 * Takes a durable message for a plugin; `told` is told once it is stored, or with the storage's error. Throws NO_ROUTE,
	 * PLUGIN_DISABLED, MAILBOX_FULL, ID_REUSED, MESSAGE_TOO_LARGE and STORAGE_UNAVAILABLE. A repeat of an id that the sender chose gives
	 * the first answer. What is sent later by the same sender is behind it, whenever they are told.
	 */
	sendDurable(draft: MessageDraft, source: string, recipientId: string, told: AcceptanceListener): void {
		// No promise: this is done for every message.
		this.#requirePresent(recipientId);
		const recipient = this.#recipient(recipientId);
		try {
			this.#durable.send(draft, source, recipient, told);
		} finally {
			recipient.checkDeserted();
		}
	}

	/** Puts a dead letter back where it came from. Rejects like `DurableMessages.redrive`, with NO_ROUTE and PLUGIN_DISABLED. */
	async redrive(letter: DeadLetter): Promise<void> {
		if (!isFromMailbox(letter)) throw new HubError("DEAD_LETTER_NOT_FOUND", "the letter does not come from a mailbox");
		this.#requirePresent(letter.pluginId);
		const recipient = this.#recipient(letter.pluginId);
		try {
			return this.#durable.redrive(letter, recipient);
		} finally {
			recipient.checkDeserted();
		}
	}

	/**
	 * Takes a transient one-way message for a plugin. Refuses with NO_ROUTE, PLUGIN_DISABLED, RECIPIENT_UNAVAILABLE, MAILBOX_FULL and
	 * ID_REUSED. A repeat of an id that the sender chose gives the first answer, as long as `SentIds` knows it.
	 */
	send(draft: MessageDraft, source: string, recipientId: string): AcceptedMessage {
		let digest = "";
		if (draft.id !== "") {
			digest = sendDigest(recipientId, draft.sent);
			const first = this.#sent.find(source, draft.id, digest);
			if (first !== undefined) {
				this.counters.duplicates++;
				return { ...first, duplicate: true };
			}
		}
		const accepted = this.deliver(draft, source, recipientId);
		if (draft.id !== "") this.#sent.remember(source, draft.id, digest, accepted);
		return accepted;
	}

	/** The same, and the id is not looked at: for one of the copies of a message for many. */
	deliver(draft: MessageDraft, source: string, recipientId: string): AcceptedMessage {
		const recipient = this.#attached(recipientId);
		const message = this.#accept(draft, source, recipientId);
		const disposition = recipient.offer(message);
		this.counters.sent++;
		return { id: message.id, disposition, duplicate: false };
	}

	/**
	 * Offers a copy of a message that was accepted under this id to another plugin, as a transient one-way message that names
	 * the route that asked for it. What becomes of it is only counted.
	 */
	mirror(draft: MessageDraft, id: string, source: string, recipientId: string, route: string): void {
		try {
			const recipient = this.#attached(recipientId);
			const copy = { ...draft, wire: withAttribute(draft.wire, "hub-mirror", route) };
			recipient.offer(this.#accept(copy, source, recipientId, undefined, id));
			this.counters.mirrored++;
		} catch (error) {
			if (!(error instanceof HubError)) throw error;
			this.counters.mirrorLost++;
		}
	}

	/**
	 * Takes a request for a plugin and tells `onOutcome` once how it ended, unless the caller cancels it before; never
	 * before this returns. `deadline` is in `Clock.monotonic()` milliseconds. Refuses like `send`, and with
	 * LIMIT_EXCEEDED. The ids of requests are not remembered: a repeat asks again.
	 */
	request(
		draft: MessageDraft,
		source: string,
		recipientId: string,
		deadline: number,
		onOutcome: (outcome: ReplyOutcome) => void,
	): { readonly id: string; readonly pending: PendingReply } {
		const recipient = this.#attached(recipientId);
		const pending = this.#pending.open(source, deadline, onOutcome);
		try {
			const message = this.#accept(draft, source, recipientId, pending);
			recipient.offer(message);
			pending.onWithdrawn = (reason) => recipient.withdraw(message, reason);
			this.counters.requested++;
			return { id: message.id, pending };
		} catch (error) {
			pending.cancel();
			throw error;
		}
	}

	/** Opens a receiving session. Refuses with INSTANCE_NOT_FOUND and LIMIT_EXCEEDED. The session is its stream's to close. */
	attach(
		pluginId: string,
		instanceId: string,
		maxInFlight: number,
		policy: DeliveryPolicy = DEFAULT_POLICY,
	): ReceivingSession {
		if (this.#disposed) throw draining();
		if (instanceId !== "" && !this.#leases.isLive(pluginId, instanceId)) throw instanceGone(instanceId);
		const recipient = this.#recipient(pluginId);
		if (recipient.sessions.size >= MAX_SESSIONS_PER_PLUGIN) {
			throw new HubError("LIMIT_EXCEEDED", `the plugin has ${MAX_SESSIONS_PER_PLUGIN} receiving sessions already`, {
				metadata: { limit: String(MAX_SESSIONS_PER_PLUGIN) },
				quota: { subject: `plugin:${pluginId}`, description: "receiving sessions" },
			});
		}
		const id = this.#ids.next();
		const session = new ReceivingSession(recipient, { id, pluginId, instanceId, maxInFlight, policy });
		recipient.join(session);
		return session;
	}

	/** A session of this plugin; another's is SESSION_NOT_FOUND as one that never was. */
	session(pluginId: string, sessionId: string): ReceivingSession {
		const sessions = this.#recipients.get(pluginId)?.sessions ?? [];
		for (const session of sessions) if (session.id === sessionId) return session;
		throw new HubError("SESSION_NOT_FOUND", "the caller has no such receiving session", {
			metadata: { session_id: sessionId.slice(0, 64) },
		});
	}

	/** Ends every session and every wait with HUB_DRAINING. */
	[Symbol.dispose](): void {
		if (this.#disposed) return;
		this.#disposed = true;
		this.#leaseEnds[Symbol.dispose]();
		this.#removals[Symbol.dispose]();
		this.#pending.failAll(draining());
		for (const recipient of [...this.#recipients.values()]) {
			for (const session of [...recipient.sessions]) session.end(draining());
		}
		this.#deadlines[Symbol.dispose]();
		this.store[Symbol.dispose]();
	}

	#recipient(pluginId: string): Recipient {
		let recipient = this.#recipients.get(pluginId);
		if (recipient !== undefined) return recipient;
		const made = new Recipient({
			pluginId,
			clock: this.#clock,
			deadlines: this.#deadlines,
			counters: this.counters,
			bounds: this.#bounds,
			memory: this.memory,
			store: this.store,
			letters: this.letters,
			onDeserted: () => {
				if (this.#recipients.get(pluginId) !== made) return;
				this.#recipients.delete(pluginId);
				this.store.dropIfEmpty(pluginId);
			},
		});
		recipient = made;
		this.#recipients.set(pluginId, recipient);
		return recipient;
	}

	/** Its messages go with the plugin; another of its id must not inherit them. */
	#remove(pluginId: string): void {
		const recipient = this.#recipients.get(pluginId);
		this.#recipients.delete(pluginId);
		const failed = (error: unknown) => this.#onFault("deleting the messages of a plugin", error);
		this.store.purge(pluginId).catch(failed);
		this.letters.purge(pluginId).catch(failed);
		recipient?.abandon(noRoute({ kind: "plugin", name: pluginId }, "the plugin is no longer registered"));
	}

	#attached(recipientId: string): Recipient {
		this.#requirePresent(recipientId);
		const recipient = this.#recipients.get(recipientId);
		if (recipient === undefined || recipient.sessions.size === 0) throw recipientGone(recipientId);
		return recipient;
	}

	#requirePresent(recipientId: string): void {
		if (this.#disposed) throw draining();
		const standing = this.#directory.lookup(recipientId);
		if (standing === "unknown") throw noRoute({ kind: "plugin", name: recipientId }, "there is no such plugin");
		if (standing === "disabled") {
			throw new HubError("PLUGIN_DISABLED", "the recipient is disabled", {
				metadata: { recipient: recipientId },
				precondition: { type: "PLUGIN_ENABLED", subject: recipientId, description: "an operator disabled the plugin" },
			});
		}
	}

	#accept(
		draft: MessageDraft,
		source: string,
		recipient: string,
		request?: PendingReply,
		id: string = draft.id === "" ? this.#ids.next() : draft.id,
	): QueuedMessage {
		const requiresResponse = request !== undefined;
		const bytes = stampMessage(draft, { id, source, recipient, hubTime: this.#clock.now(), requiresResponse });
		return new QueuedMessage({
			id,
			source,
			priority: draft.priority,
			orderingKey: draft.orderingKey,
			bytes,
			size: bytes.byteLength,
			expiresAt:
				draft.ttlMs === undefined
					? Number.POSITIVE_INFINITY
					: this.#clock.monotonic() + Math.max(MIN_TTL_MS, draft.ttlMs),
			request,
			stored: undefined,
		});
	}

	#endInstance(pluginId: string, instanceId: string): void {
		const recipient = this.#recipients.get(pluginId);
		if (recipient === undefined) return;
		for (const session of [...recipient.sessions]) {
			if (session.instanceId === instanceId) session.end(instanceGone(instanceId));
		}
	}
}

function noRoute({ kind, name }: RecipientAddress, problem: string): HubError {
	return new HubError("NO_ROUTE", problem, { metadata: { [kind]: name }, resource: { type: kind, name } });
}

function instanceGone(instanceId: string): HubError {
	return new HubError("INSTANCE_NOT_FOUND", "the plugin has no such instance, or its lease is over", {
		metadata: { instance_id: instanceId.slice(0, 128) },
	});
}

function draining(): HubError {
	return new HubError("HUB_DRAINING", "the hub is shutting down");
}
