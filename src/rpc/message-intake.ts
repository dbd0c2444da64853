import { Durability } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import type { Clock } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import type { RecipientAddress } from "../messaging/address.ts";
import type { MessageContent } from "../messaging/message-content.ts";
import { MAX_AHEAD_MS, type MessageDraft, parseMessage } from "../messaging/message-draft.ts";
import type { Journey, MirrorCopy } from "../messaging/route-table.ts";
import type { Router } from "../messaging/router.ts";
import type { Routes } from "../messaging/routes.ts";
import type { SharedJourneys } from "../messaging/shared-journeys.ts";
import type { Caller } from "../security/caller.ts";
import type { Guard } from "../security/guard.ts";
import type { Call } from "./call.ts";
import { readAddress, type SendView } from "./send-frames.ts";

/** The part of the guard that messages need. */
export type MessageGuard = Pick<Guard, "check" | "spoofed">;

/** What the hub promises of a message. */
export type MessageDurability = "durable" | "transient";

/** A message that may be sent. */
export interface AdmittedMessage {
	readonly draft: MessageDraft;
	readonly source: string;
	readonly recipient: string;
	/** Copies that routes ask for, once it is accepted. */
	readonly mirrors: readonly MirrorCopy[];
	/** Of one of the copies of a message for many: which of those are due for all together. */
	readonly journeys?: Pick<SharedJourneys, "takeMirrors">;
}

export interface MessageIntakeDeps {
	readonly clock: Clock;
	readonly router: Router;
	readonly routes: Routes;
	readonly guard: MessageGuard;
}

/** How long a request waits for its reply where its sender does not say. */
const DEFAULT_TIMEOUT_MS = 30_000;
const MAX_TIMEOUT_MS = 60 * 60 * 1000;

/**
 * What every message goes through, whichever way it comes: it is read, its recipient found, and the guard asked about that
 * one, wherever it was addressed to. Only then does its sender learn whether there is such a recipient.
 */
export class MessageIntake {
	readonly #router: Router;
	readonly #routes: Routes;
	readonly #guard: MessageGuard;
	readonly #clock: Clock;

	constructor({ clock, router, routes, guard }: MessageIntakeDeps) {
		this.#router = router;
		this.#routes = routes;
		this.#clock = clock;
		this.#guard = guard;
	}

	/** `prefix` is the path of what holds the message, empty or ending in a dot. */
	admit(call: Call, view: SendView, prefix: string, durability: MessageDurability): AdmittedMessage {
		const source = pluginOf(call.caller);
		const to = readAddress(view.to, `${prefix}to`);
		const draft = this.read(view.message, call, prefix, durability);
		const journey = this.led(call, to, () =>
			this.#routes.lead(to, draft, source, (address) => this.#router.resolve(address, source)),
		);
		this.check(call, to, journey, draft.content, prefix);
		return { draft, source, recipient: journey.recipient, mirrors: journey.mirrors };
	}

	/** Where `lead` finds that a message goes. That it leads nowhere is told to those only who may send to anybody at all. */
	led<J>({ caller, requestId }: Call, to: RecipientAddress, lead: () => J): J {
		try {
			return lead();
		} catch (error) {
			if (to.kind !== "plugin" && error instanceof HubError && error.reason === "NO_ROUTE") {
				const action = { kind: "send", recipient: "", addressed: to, leadsNowhere: true } as const;
				this.#guard.check(caller, action, undefined, requestId);
			}
			throw error;
		}
	}

	/**
	 * Asks the guard about the plugin that routes lead to, and throws its refusal. No content: it was judged before. `prefix` as
	 * for `admit`.
	 */
	check(
		{ caller, requestId }: Call,
		to: RecipientAddress,
		{ recipient, denial }: Journey,
		content: MessageContent | undefined,
		prefix: string,
	): void {
		const recipientExists = recipient !== "" && this.#router.knows(recipient);
		const action = { kind: "send", recipient, recipientExists, denial, addressed: to } as const;
		try {
			this.#guard.check(caller, action, content, requestId);
		} catch (error) {
			// The guard knows a message's content, not where in a request it stands.
			throw error instanceof HubError ? error.placed((field) => `${prefix}message.${field}`) : error;
		}
	}

	/** The message as its sender gave it, before the guard is asked. Absent is refused. `prefix` as for `admit`. */
	read(message: Uint8Array | undefined, call: Call, prefix: string, durability: MessageDurability): MessageDraft {
		const source = pluginOf(call.caller);
		const field = `${prefix}message`;
		if (message === undefined) throw HubError.field(field, "is required");
		try {
			const draft = parseMessage(message, source, field, durability);
			if (draft.deliverAt !== undefined && draft.deliverAt - this.#clock.now() > MAX_AHEAD_MS) {
				throw HubError.field(`${field}.deliver_at`, "must be at most 366 days ahead");
			}
			return draft;
		} catch (error) {
			if (error instanceof HubError && error.reason === "SPOOFED_SOURCE") {
				this.#guard.spoofed(call.caller, error, call.requestId);
			}
			throw error;
		}
	}
}

/** The calling plugin's id. Refuses callers of another kind with CALLER_NOT_ALLOWED. */
export function pluginOf(caller: Caller): string {
	if (caller.kind === "plugin") return caller.id;
	throw new HubError("CALLER_NOT_ALLOWED", "messages are for plugins", { metadata: { caller: caller.kind } });
}

/** Refuses a durability that is not one of the enum's. */
function checkDurability(durability: number | undefined, field: string): void {
	if (durability === undefined || durability === Durability.TRANSIENT || durability === Durability.DURABLE) return;
	throw HubError.field(field, "must be TRANSIENT or DURABLE where it is set");
}

/** What a one-way message is sent as. Refuses what is not one of the enum's. */
export function durabilityOf(durability: number | undefined, field: string): MessageDurability {
	checkDurability(durability, field);
	return durability === Durability.TRANSIENT ? "transient" : "durable";
}

/** Refuses a request that asks for durability. */
export function requireTransient(durability: number | undefined, field: string): void {
	checkDurability(durability, field);
	if (durability === Durability.DURABLE) throw HubError.field(field, "a request cannot be durable");
}

/** When a request's sender stops waiting, in `Clock.monotonic()` milliseconds: its timeout or the call's deadline. */
export function replyDeadline(now: number, timeoutMs: number | undefined, call: Call, field: string): number {
	const timeout = timeoutMs ?? DEFAULT_TIMEOUT_MS;
	if (!(timeout > 0 && timeout <= MAX_TIMEOUT_MS))
		throw HubError.field(field, "must be more than 0 and at most 1 hour");
	return Math.min(now + timeout, call.deadline ?? Number.POSITIVE_INFINITY);
}
