import { Durability } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { HubError } from "../hub-error.ts";
import { type MessageDraft, parseMessage } from "../messaging/message-draft.ts";
import type { Router } from "../messaging/router.ts";
import type { Caller } from "../security/caller.ts";
import type { Guard } from "../security/guard.ts";
import type { Call } from "./call.ts";
import { readAddress, type SendView } from "./send-frames.ts";

/** The part of the guard that messages need. */
export type MessageGuard = Pick<Guard, "check" | "spoofed">;

/** A message that may be sent. */
export interface AdmittedMessage {
	readonly draft: MessageDraft;
	readonly source: string;
	readonly recipient: string;
}

/** How long a request waits for its reply where its sender does not say. */
const DEFAULT_TIMEOUT_MS = 30_000;
const MAX_TIMEOUT_MS = 60 * 60 * 1000;

/**
 * What every message goes through, whichever way it comes: it is read, its recipient found, and the guard asked. Only
 * then does its sender learn whether there is such a recipient.
 */
export class MessageIntake {
	readonly #router: Router;
	readonly #guard: MessageGuard;

	constructor(router: Router, guard: MessageGuard) {
		this.#router = router;
		this.#guard = guard;
	}

	/** `prefix` is the path of what holds the message, empty or ending in a dot. */
	admit(call: Call, view: SendView, prefix: string): AdmittedMessage {
		const source = pluginOf(call.caller);
		const to = readAddress(view.to, `${prefix}to`);
		if (view.message === undefined) throw HubError.field(`${prefix}message`, "is required");
		const draft = this.#read(view.message, call, source, `${prefix}message`);
		const recipient = this.#router.resolve(to, source);
		const recipientExists = this.#router.knows(recipient);
		try {
			this.#guard.check(call.caller, { kind: "send", recipient, recipientExists }, draft.content, call.requestId);
		} catch (error) {
			// The guard knows a message's content, not where in a request it stands.
			throw error instanceof HubError ? error.placed((field) => `${prefix}message.${field}`) : error;
		}
		return { draft, source, recipient };
	}

	#read(message: Uint8Array, call: Call, source: string, field: string): MessageDraft {
		try {
			return parseMessage(message, source, field);
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
export function checkDurability(durability: number | undefined, field: string): void {
	if (durability === undefined || durability === Durability.TRANSIENT || durability === Durability.DURABLE) return;
	throw HubError.field(field, "must be TRANSIENT or DURABLE where it is set");
}

/** Refuses a message that asks for durability, which is what an absent one means where `absent` says so. */
export function requireTransient(durability: number | undefined, absent: "durable" | "transient"): void {
	if (durability === Durability.TRANSIENT || (durability === undefined && absent === "transient")) return;
	throw new HubError(
		"FEATURE_NOT_AVAILABLE",
		"this hub does not keep durable messages; set durability to DURABILITY_TRANSIENT",
		{ metadata: { feature: "durable_messages" } },
	);
}

/** When a request's sender stops waiting, in `Clock.monotonic()` milliseconds: its timeout or the call's deadline. */
export function replyDeadline(now: number, timeoutMs: number | undefined, call: Call, field: string): number {
	const timeout = timeoutMs ?? DEFAULT_TIMEOUT_MS;
	if (!(timeout > 0 && timeout <= MAX_TIMEOUT_MS))
		throw HubError.field(field, "must be more than 0 and at most 1 hour");
	return Math.min(now + timeout, call.deadline ?? Number.POSITIVE_INFINITY);
}
