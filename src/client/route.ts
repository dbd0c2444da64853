import type { MessageInitShape } from "@bufbuild/protobuf";
import type { RouteSchema, StoredRoute } from "#gen/qirvo/hub/v1/routes_pb.js";

/** Which messages a route is for: those that all of it admits. */
export interface RouteMatch {
	/** Addressed to this alias, 1-256 characters. At most one of `alias` and `recipient` may be there. */
	readonly alias?: string;
	/** For this plugin, however the message came to be for it. */
	readonly recipient?: string;
	/** Patterns of message types, any of which admits; at most 16. Default: any type. */
	readonly types?: readonly string[];
	/** Plugins that send, any of which admits; at most 64. Default: any sender. */
	readonly senders?: readonly string[];
}

/** What a route does with its messages. */
export type RouteAction =
	/** Gives `match.alias` its plugin. */
	| { readonly kind: "alias"; readonly pluginId: string }
	/** Sends them to 1-16 plugins by weight, 1-10,000 each. */
	| {
			readonly kind: "split";
			readonly targets: readonly { readonly pluginId: string; readonly weight: number }[];
	  }
	/** Copies them to another plugin. */
	| { readonly kind: "mirror"; readonly pluginId: string }
	/** Sends what is for `match.recipient` to another plugin. */
	| { readonly kind: "redirect"; readonly pluginId: string }
	/** Refuses them with ROUTE_DENIED and this reason, at most 512 characters, which the sender reads. Default: none. */
	| { readonly kind: "deny"; readonly reason?: string };

/** A route as it is put. */
export interface RouteDraft {
	/** Of the form of a plugin id. */
	readonly name: string;
	/** Higher is asked first, -1,000 to 1,000; among equals the name decides. Default 0. */
	readonly priority?: number;
	/** Default: all messages, which a mirror and a deny may have. */
	readonly match?: RouteMatch;
	readonly action: RouteAction;
}

/** A route as the hub has it. */
export interface Route extends RouteDraft {
	readonly priority: number;
	/** Changes with each change. */
	readonly revision: bigint;
}

/** In the words of the contract. */
export function toRoute({ name, priority = 0, match, action }: RouteDraft): MessageInitShape<typeof RouteSchema> {
	return { name, priority, match: match && toMatch(match), action: toAction(action) };
}

/** A stored route; one whose action this client does not know is refused with a TypeError. */
export function fromStoredRoute({ route, revision }: StoredRoute): Route {
	const { name = "", priority = 0, match, action } = route ?? {};
	const { address, types, senders } = match ?? {};
	return {
		...{ name, priority, revision },
		...(match && {
			match: {
				...(address?.case === "alias" && { alias: address.value }),
				...(address?.case === "recipient" && { recipient: address.value }),
				...(types?.length && { types }),
				...(senders?.length && { senders }),
			},
		}),
		action: fromAction(name, action),
	};
}

function toMatch({ alias, recipient, types = [], senders = [] }: RouteMatch) {
	if (alias !== undefined && recipient !== undefined) {
		throw new TypeError("a route's match has either an alias or a recipient");
	}
	const lists = { types: [...types], senders: [...senders] };
	if (alias !== undefined) return { ...lists, address: { case: "alias", value: alias } as const };
	if (recipient !== undefined) return { ...lists, address: { case: "recipient", value: recipient } as const };
	return lists;
}

function toAction(action: RouteAction): NonNullable<MessageInitShape<typeof RouteSchema>["action"]> {
	switch (action.kind) {
		case "split":
			return { case: "split", value: { targets: action.targets.map((target) => ({ ...target })) } };
		case "deny":
			return { case: "deny", value: { reason: action.reason ?? "" } };
		default:
			return { case: action.kind, value: action.pluginId };
	}
}

function fromAction(name: string, action: NonNullable<StoredRoute["route"]>["action"] | undefined): RouteAction {
	switch (action?.case) {
		case "split": {
			const targets = action.value.targets.map(({ pluginId, weight }) => ({ pluginId, weight }));
			return { kind: "split", targets };
		}
		case "deny":
			return { kind: "deny", reason: action.value.reason };
		case "alias":
		case "mirror":
		case "redirect":
			return { kind: action.case, pluginId: action.value };
		default:
			throw new TypeError(`the action of the route "${name}" is not known to this client`);
	}
}
