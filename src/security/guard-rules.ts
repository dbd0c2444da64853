import { TrustLevel } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import { HubError, type Reason } from "../hub-error.ts";
import { isLifecycleType } from "../subjects/subject.ts";
import type { Action, ReachAction, SendAction, StoreAccess, StoreAction } from "./actions.ts";
import type { Caller } from "./caller.ts";
import type { ContentFacts, ContentRule } from "./content-rule.ts";
import type { PatternGrants } from "./grants.ts";
import type { PluginPolicy, PolicySource } from "./policy-view.ts";
import { trustName, trustReaches } from "./trust.ts";

/** Refuses by rate by returning an error, and takes a place where it admits. */
export type RateRule = (caller: Caller, action: Action) => HubError | undefined;

/** Everything a rule may look at. */
export interface Facts<A extends Action = Action> {
	readonly policy: PolicySource;
	readonly caller: Caller;
	/** The calling plugin's own policy; undefined for operators and for callers without a credential. */
	readonly own: PluginPolicy | undefined;
	readonly action: A;
	readonly content: ContentFacts | undefined;
	readonly rate: RateRule;
	readonly rule: ContentRule;
}

/** Why an action is refused. */
export interface Refusal {
	/** The rule, as audit records name it: the reason in lower case. */
	readonly rule: string;
	readonly error: HubError;
}

type PluginFacts<A extends Action> = Facts<A> & {
	readonly own: PluginPolicy;
	readonly caller: Caller & { kind: "plugin" };
};
type Rule<A extends Action> = (facts: PluginFacts<A>) => HubError | undefined;
type MirrorAction = Extract<Action, { kind: "mirror" }>;
type RulesFor<K extends Action["kind"]> = readonly Rule<Extract<Action, { kind: K }>>[];

/** The rules of each action, in the order in which they are asked. The first that refuses decides. */
const RULES: { readonly [K in Action["kind"]]: RulesFor<K> } = {
	send: [mayReachRecipient, routesAdmit, trustMatches, withinRate, contentIsValid, recipientReceives],
	reach: [routesAdmit, trustMatches, recipientReceives, mayGetTopic],
	mirror: [trustMatches, recipientReceives],
	receive: [],
	intercept: [mayIntercept],
	"subscribe-topic": [coveredBy("subscribeTopics", "subscribe_topics")],
	publish: [mayPublish, withinRate, contentIsValid],
	broadcast: [mayBroadcast, withinRate, contentIsValid],
	emit: [typeIsFree, mayEmit, withinRate, contentIsValid],
	subscribe: [coveredBy("subscribe", "subscribe"), withinRate],
	replay: [coveredBy("replay", "replay"), withinRate],
	store: [mayAccessStore, storeAdmits, withinRate, contentIsValid],
};

/** Operators administer: they read everything and take no part. */
const OPERATORS_MAY: ReadonlySet<Action["kind"]> = new Set(["subscribe", "replay"]);
const OPERATORS_MAY_NOT: ReadonlySet<StoreAccess> = new Set(["write", "create"]);

export function firstRefusal(facts: Facts): Refusal | undefined {
	const error = facts.own === undefined ? outsider(facts) : insider(facts as PluginFacts<Action>);
	return error === undefined ? undefined : { rule: error.reason.toLowerCase(), error };
}

/** What a stream ends with when a check that it passed once no longer passes. */
export function revoked(cause: HubError): HubError {
	return new HubError("PERMISSION_REVOKED", `no longer permitted: ${cause.message}`, {
		metadata: { ...cause.metadata, refused_by: cause.reason },
		cause,
	});
}

function insider(facts: PluginFacts<Action>): HubError | undefined {
	if (facts.own.disabled) return disabledPlugin(facts.caller.id);
	// The table pairs each kind with the rules of that kind, which the compiler cannot follow through an index.
	const rules = RULES[facts.action.kind] as readonly Rule<Action>[];
	for (const rule of rules) {
		const error = rule(facts);
		if (error !== undefined) return error;
	}
	return undefined;
}

function outsider({ caller, action }: Facts): HubError | undefined {
	if (caller.kind === "operator" && operatorsMay(action)) return undefined;
	if (caller.kind === "anonymous") return new HubError("CREDENTIAL_MISSING", "a credential is required");
	return new HubError("CALLER_NOT_ALLOWED", `"${action.kind}" is for plugins`, { metadata: { action: action.kind } });
}

function operatorsMay(action: Action): boolean {
	return action.kind === "store" ? !OPERATORS_MAY_NOT.has(action.access) : OPERATORS_MAY.has(action.kind);
}

function mayReachRecipient({ own, action }: PluginFacts<SendAction>): HubError | undefined {
	if (action.capability !== undefined) {
		if (own.grants.capabilities.admits(action.capability)) return undefined;
		return deny("NO_SEND_PERMISSION", `no grant in capabilities admits "${action.capability}"`, {
			capability: action.capability,
		});
	}
	const { addressed, leadsNowhere = false } = action;
	if (addressed !== undefined && addressed.kind !== "plugin" && own.grants.sendTo.isEmpty) {
		// Not a word of where it leads, nor whether it does.
		return deny("NO_SEND_PERMISSION", `no grant in send_to admits what the ${addressed.kind} leads to`, {
			[addressed.kind]: addressed.name,
		});
	}
	if (leadsNowhere) return undefined;
	const isRefusedUnreached = action.denial !== undefined && action.recipient === "";
	if (isRefusedUnreached || own.grants.sendTo.admits(action.recipient)) return undefined;
	return deny("NO_SEND_PERMISSION", `no grant in send_to admits "${action.recipient}"`, {
		recipient: action.recipient,
	});
}

function mayIntercept({ own }: PluginFacts<Action>): HubError | undefined {
	if (!own.grants.intercept) return deny("INSUFFICIENT_PERMISSIONS", "no grant to intercept", { grant: "intercept" });
	if (trustReaches(own.trust, TrustLevel.TRUSTED)) return undefined;
	return deny("INSUFFICIENT_TRUST_LEVEL", "the grant to intercept needs TRUSTED or above", {
		grant: "intercept",
		trust_level: trustName(own.trust),
	});
}

function routesAdmit({ action: { denial } }: PluginFacts<SendAction | ReachAction>): HubError | undefined {
	if (denial === undefined) return undefined;
	const { route, reason } = denial;
	return deny("ROUTE_DENIED", reason === "" ? `route "${route}" refuses the message` : reason, { route });
}

function trustMatches({
	policy,
	own,
	action,
}: PluginFacts<SendAction | ReachAction | MirrorAction>): HubError | undefined {
	if (trustReaches(own.trust, TrustLevel.BASIC)) return undefined;
	if (!trustReaches(policy.plugin(action.recipient).trust, TrustLevel.TRUSTED)) return undefined;
	return deny("TRUST_LEVEL_MISMATCH", `a sender below BASIC may not send to a recipient that is TRUSTED or above`, {
		recipient: action.recipient,
		trust_level: trustName(own.trust),
	});
}

function recipientReceives({
	policy,
	caller,
	action,
}: PluginFacts<SendAction | ReachAction | MirrorAction>): HubError | undefined {
	if (action.kind === "send" && (action.recipientExists === false || action.leadsNowhere)) return undefined;
	if (policy.plugin(action.recipient).grants.receiveFrom.admits(caller.id)) return undefined;
	return deny("RECIPIENT_CANNOT_RECEIVE", `"${action.recipient}" may not receive from "${caller.id}"`, {
		recipient: action.recipient,
	});
}

function mayGetTopic({ policy, action: { recipient, topic } }: PluginFacts<ReachAction>): HubError | undefined {
	if (topic === undefined || policy.plugin(recipient).grants.subscribeTopics.admits(topic.canonical)) return undefined;
	return deny("RECIPIENT_CANNOT_RECEIVE", `"${recipient}" may not get what is published to "${topic.spelling}"`, {
		recipient,
		topic: topic.spelling,
	});
}

function typeIsFree({ action }: PluginFacts<Extract<Action, { kind: "emit" }>>): HubError | undefined {
	if (!isLifecycleType(action.subject)) return undefined;
	return deny("RESERVED_EVENT_TYPE", `only the hub emits "${action.subject.spelling}"`, {
		type: action.subject.spelling,
	});
}

function mayEmit({ own, action }: PluginFacts<Extract<Action, { kind: "emit" }>>): HubError | undefined {
	if (own.grants.emit.admits(action.subject.canonical)) return undefined;
	return deny("INSUFFICIENT_PERMISSIONS", `no grant in emit admits "${action.subject.spelling}"`, {
		type: action.subject.spelling,
		grant: "emit",
	});
}

function mayPublish({ own, action }: PluginFacts<Extract<Action, { kind: "publish" }>>): HubError | undefined {
	if (own.grants.publishTopics.admits(action.topic.canonical)) return undefined;
	return deny("INSUFFICIENT_PERMISSIONS", `no grant in publish_topics admits "${action.topic.spelling}"`, {
		topic: action.topic.spelling,
		grant: "publish_topics",
	});
}

function mayBroadcast({ own }: PluginFacts<Action>): HubError | undefined {
	if (own.grants.broadcast) return undefined;
	return deny("INSUFFICIENT_PERMISSIONS", "broadcast is not granted", { grant: "broadcast" });
}

/** `list` is the property and `grant` the field of the Permissions that must cover what is asked for. */
function coveredBy(
	list: "subscribe" | "replay" | "subscribeTopics",
	grant: string,
): Rule<Extract<Action, { patterns: unknown }>> {
	return ({ own, action }) => {
		const grants: PatternGrants = own.grants[list];
		const uncovered = grants.firstUncovered(action.patterns);
		if (uncovered === undefined) return undefined;
		return deny("INSUFFICIENT_PERMISSIONS", `no grant in ${grant} covers "${uncovered.spelling}"`, {
			pattern: uncovered.spelling,
			grant,
		});
	};
}

function mayAccessStore({ own, action }: PluginFacts<StoreAction>): HubError | undefined {
	const { store, access, standing } = action;
	switch (own.grants.store(store, access, standing === "owner", own.trust)) {
		case "admitted":
			return undefined;
		case "trust-too-low":
			return deny("INSUFFICIENT_TRUST_LEVEL", `the grant to ${access} "${store}" needs TRUSTED or above`, {
				store,
				access,
				trust_level: trustName(own.trust),
			});
		case "not-granted":
			return deny("INSUFFICIENT_PERMISSIONS", `no grant in stores admits to ${access} "${store}"`, { store, access });
	}
}

/** One who no list of the store admits is told what one is told of a store that does not exist. */
function storeAdmits({ own, action }: PluginFacts<StoreAction>): HubError | undefined {
	const { store, access, standing } = action;
	switch (standing) {
		case undefined:
		case "owner":
		case "admitted":
			return undefined;
		case "trust-too-low":
			return deny("INSUFFICIENT_TRUST_LEVEL", `the store's list to ${access} "${store}" asks for more trust`, {
				store,
				access,
				trust_level: trustName(own.trust),
			});
		case "not-admitted":
			return deny("INSUFFICIENT_PERMISSIONS", `the store's list does not admit to ${access} "${store}"`, {
				store,
				access,
			});
		case "unknown":
			return noSuchStore(store);
	}
}

/** The store is not there, or not for the caller to know of. */
export function noSuchStore(store: string): HubError {
	return new HubError("STORE_NOT_FOUND", `there is no store "${store}"`, {
		metadata: { store },
		resource: { type: "store", name: store },
	});
}

function withinRate({ rate, caller, action }: PluginFacts<Action>): HubError | undefined {
	return rate(caller, action);
}

function contentIsValid({ content, rule }: PluginFacts<Action>): HubError | undefined {
	return content === undefined ? undefined : rule(content);
}

/** What a disabled plugin is told, whatever it asks. */
export function disabledPlugin(pluginId: string): HubError {
	return new HubError("PLUGIN_DISABLED", `plugin "${pluginId}" is disabled`, {
		metadata: { plugin_id: pluginId },
		precondition: { type: "PLUGIN_STATE", subject: `plugin:${pluginId}`, description: "the plugin is disabled" },
	});
}

function deny(reason: Reason, message: string, metadata: Readonly<Record<string, string>>): HubError {
	return new HubError(reason, message, { metadata });
}
