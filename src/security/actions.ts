import type { Pattern } from "../subjects/pattern.ts";
import type { Subject } from "../subjects/subject.ts";

/** What a caller wants to do, as the guard judges it. */
export type Action = EventAction | MessageAction | DataAction;

export type EventAction =
	| { readonly kind: "emit"; readonly subject: Subject }
	| { readonly kind: "subscribe"; readonly patterns: readonly Pattern[] }
	| { readonly kind: "replay"; readonly patterns: readonly Pattern[] };

type MessageAction = SendAction | { readonly kind: "receive" };

export interface SendAction {
	readonly kind: "send";
	/** The plugin that the message goes to. */
	readonly recipient: string;
	/** The canonical form of the capability that the message was addressed by: its grant then takes the place of `send_to`. */
	readonly capability?: string;
	/** False where no such plugin is registered: whoever may send to it is then admitted, so as to be told NO_ROUTE. */
	readonly recipientExists?: boolean;
}

interface DataAction {
	readonly kind: "store";
	readonly store: string;
	readonly access: "read" | "write" | "create";
}

/** The audit event that a refusal of the action is recorded as. */
export function denialEventOf(action: Action): "message_denied" | "event_denied" | "data_access_denied" {
	switch (action.kind) {
		case "send":
		case "receive":
			return "message_denied";
		case "store":
			return "data_access_denied";
		default:
			return "event_denied";
	}
}

/** How audit records name what an action is aimed at, at most 512 characters. */
export function targetOf(action: Action): string {
	switch (action.kind) {
		case "emit":
			return `event:${action.subject.canonical}`.slice(0, 512);
		case "subscribe":
		case "replay":
			return `event:${action.patterns.map((pattern) => pattern.canonical).join(",")}`.slice(0, 512);
		case "send":
			return `plugin:${action.recipient}`;
		case "receive":
			return "messages";
		case "store":
			return `store:${action.store}`.slice(0, 512);
	}
}
