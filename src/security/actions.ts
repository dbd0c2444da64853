import type { Pattern } from "../subjects/pattern.ts";
import type { Subject } from "../subjects/subject.ts";

/** What a caller wants to do, as the guard judges it. */
export type Action = EventAction | MessageAction | TopicAction | StoreAction;

export type EventAction =
	| { readonly kind: "emit"; readonly subject: Subject }
	| { readonly kind: "subscribe"; readonly patterns: readonly Pattern[] }
	| { readonly kind: "replay"; readonly patterns: readonly Pattern[] };

type MessageAction =
	| SendAction
	| ReachAction
	| { readonly kind: "receive" }
	| { readonly kind: "intercept" }
	/** A copy of a message that was admitted, which a route of an operator's sends to another plugin. */
	| { readonly kind: "mirror"; readonly recipient: string };

/** The route of an operator's that refuses a message. */
export interface RouteDenial {
	readonly route: string;
	readonly reason: string;
}

export interface SendAction {
	readonly kind: "send";
	/** The plugin that the message goes to; empty where a route refuses it before one is reached, or none is. */
	readonly recipient: string;
	/** How the message was addressed. Default: to the recipient. */
	readonly addressed?: { readonly kind: string; readonly name: string };
	readonly denial?: RouteDenial | undefined;
	/** True where what was addressed leads to no plugin: whoever may send to any is then admitted, so as to be told NO_ROUTE. */
	readonly leadsNowhere?: boolean;
	/** The canonical form of the capability that the message was addressed by: its grant then takes the place of `send_to`. */
	readonly capability?: string;
	/** False where no such plugin is registered: whoever may send to it is then admitted, so as to be told NO_ROUTE. */
	readonly recipientExists?: boolean;
}

export type TopicAction =
	| { readonly kind: "subscribe-topic"; readonly patterns: readonly Pattern[] }
	| { readonly kind: "publish"; readonly topic: Subject }
	| { readonly kind: "broadcast"; readonly event: Subject };

/** One recipient of what the caller was admitted to publish or broadcast. */
export interface ReachAction {
	readonly kind: "reach";
	/** The plugin that the copy goes to. */
	readonly recipient: string;
	readonly denial?: RouteDenial | undefined;
	/** What was published, where a route leads the copy from a subscriber to another plugin. */
	readonly topic?: Subject | undefined;
}

export interface StoreAction {
	readonly kind: "store";
	readonly store: string;
	readonly access: StoreAccess;
	/** What the store's own lists say. Absent where there is no store to ask, as of one to be created. */
	readonly standing?: StoreStanding;
}

/**
 * What of a store: read or write entries, create it, see what it is, change how it behaves (`administer`), or delete it and give
 * it away (`own`).
 */
export type StoreAccess = "read" | "write" | "create" | "see" | "administer" | "own";

/**
 * How a caller stands to a store: its owner; admitted by the list that the access needs, or by it but for its trust; admitted by
 * another list only; or by none, which is how one stands to a store that does not exist.
 */
export type StoreStanding = "owner" | "admitted" | "trust-too-low" | "not-admitted" | "unknown";

/** The audit event that a refusal of the action is recorded as. */
export function denialEventOf(action: Action): "message_denied" | "event_denied" | "data_access_denied" {
	switch (action.kind) {
		case "send":
		case "reach":
		case "receive":
		case "subscribe-topic":
		case "publish":
		case "broadcast":
		case "intercept":
		case "mirror":
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
		case "subscribe-topic":
			return `topic:${action.patterns.map((pattern) => pattern.canonical).join(",")}`.slice(0, 512);
		case "publish":
			return `topic:${action.topic.canonical}`.slice(0, 512);
		case "broadcast":
			return `broadcast:${action.event.canonical}`.slice(0, 512);
		case "send":
			if (action.recipient !== "") return `plugin:${action.recipient}`;
			return `${action.addressed?.kind}:${action.addressed?.name}`.slice(0, 512);
		case "reach":
		case "mirror":
			return `plugin:${action.recipient}`;
		case "receive":
		case "intercept":
			return "messages";
		case "store":
			return `store:${action.store}`.slice(0, 512);
	}
}
