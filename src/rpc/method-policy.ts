/** Who may call an RPC. What the caller may do with it is the guard's business. */
export type Callers =
	/** Anyone, without a credential. */
	| "public"
	/** Any plugin and any operator. */
	| "authenticated"
	/** Plugins. */
	| "plugin"
	/** Operators. */
	| "operator"
	/** Anyone; the handler itself decides what an anonymous caller may do (enrolment). */
	| "enrolling";

/** The budget a call draws on. `none`: not limited by the caller's rate. */
export type RateClass = "none" | "messages" | "data_access" | "events";

/** What happens to every call of an RPC before its handler sees it. */
export interface MethodPolicy {
	readonly callers: Callers;
	/** Which budget the pipeline's gate is asked about, once a call. */
	readonly rateClass: RateClass;
	/** The most bytes one request message may have, in wire form. */
	readonly maxRequestBytes: number;
	/** Whether each successful call is a control decision, to be audited in the commit that makes it. */
	readonly audit: boolean;
}

const KIB = 1024;
const MIB = 1024 * KIB;

/** A table: full path, `/package.Service/Method`, to its row. An RPC without a row is refused. */
export type MethodPolicies = ReadonlyMap<string, MethodPolicy>;

function rows(service: string, policy: MethodPolicy, ...methods: string[]): [string, MethodPolicy][] {
	return methods.map((method) => [`/${service}/${method}`, Object.freeze(policy)]);
}

/** Kept small: anyone may send these without a credential. */
const probe: MethodPolicy = { callers: "public", rateClass: "none", maxRequestBytes: 4 * KIB, audit: false };
const read: MethodPolicy = { callers: "authenticated", rateClass: "none", maxRequestBytes: 64 * KIB, audit: false };
/** Above the bound on content, so that too much of it is refused as content, with its own reason and audit record. */
const message: MethodPolicy = { callers: "plugin", rateClass: "messages", maxRequestBytes: 2 * MIB, audit: false };
/** A stream's entries draw on their budgets one by one, in the service. */
const batches: MethodPolicy = { callers: "plugin", rateClass: "none", maxRequestBytes: 4 * MIB, audit: false };
const control: MethodPolicy = { callers: "operator", rateClass: "none", maxRequestBytes: 256 * KIB, audit: true };
/** Above the bound on what may be written, for the same reason as messages. */
const entries: MethodPolicy = { callers: "plugin", rateClass: "data_access", maxRequestBytes: 2 * MIB, audit: false };
const reading: MethodPolicy = { ...read, rateClass: "data_access" };
/** Room for the schemas of a store. */
const storeChange: MethodPolicy = {
	callers: "authenticated",
	rateClass: "data_access",
	maxRequestBytes: 1 * MIB,
	audit: true,
};
const manifest: MethodPolicy = { callers: "authenticated", rateClass: "none", maxRequestBytes: 1 * MIB, audit: true };

const events = "qirvo.hub.v1.EventService";
const messaging = "qirvo.hub.v1.MessagingService";
const plugins = "qirvo.hub.v1.PluginService";
const security = "qirvo.hub.v1.SecurityAdminService";
const stores = "qirvo.hub.v1.StoreService";
const hub = "qirvo.hub.v1.HubService";

/** The row of every RPC that the hub mounts. */
export const METHOD_POLICIES: MethodPolicies = new Map([
	...rows("grpc.health.v1.Health", probe, "Check", "Watch"),
	...rows("grpc.reflection.v1.ServerReflection", probe, "ServerReflectionInfo"),
	...rows("grpc.reflection.v1alpha.ServerReflection", probe, "ServerReflectionInfo"),

	...rows(plugins, { ...manifest, callers: "enrolling" }, "Register"),
	...rows(plugins, manifest, "Update", "Unregister"),
	...rows(plugins, { ...read, callers: "plugin" }, "Heartbeat"),
	...rows(plugins, read, "Get", "List", "Watch"),
	...rows(plugins, control, "Disable", "Enable"),

	...rows(events, { ...message, rateClass: "events" }, "Emit"),
	...rows(events, batches, "EmitStream"),
	...rows(events, read, "Subscribe", "ListEvents", "ListSubscriptions"),
	...rows(events, { ...read, callers: "plugin" }, "CreateDurableSubscription", "ReceiveEvents", "AcknowledgeEvents"),
	...rows(events, read, "GetDurableSubscription", "ListDurableSubscriptions"),
	...rows(events, read, "DeleteDurableSubscription", "ResetDurableSubscription"),
	...rows(events, { ...read, callers: "plugin" }, "Consume"),

	...rows(messaging, message, "Send", "Request"),
	...rows(messaging, message, "Publish", "Broadcast", "RequestMany"),
	...rows(messaging, { ...read, callers: "plugin" }, "SubscribeTopic", "UnsubscribeTopic"),
	...rows(messaging, read, "ListTopicSubscriptions"),
	...rows(messaging, { ...message, rateClass: "none" }, "Reply"),
	...rows(messaging, batches, "SendStream", "Attach", "Intercept"),
	...rows(messaging, { ...read, callers: "plugin" }, "Receive", "Acknowledge"),
	...rows(messaging, read, "ListDeadLetters", "GetDeadLetter", "RedriveDeadLetters", "DeleteDeadLetters"),
	...rows(messaging, control, "PutRoute", "DeleteRoute"),
	...rows(messaging, { ...read, callers: "operator" }, "GetRoute", "ListRoutes"),

	...rows(stores, { ...storeChange, callers: "plugin" }, "CreateStore"),
	...rows(stores, storeChange, "UpdateStore", "DeleteStore", "TransferStore"),
	...rows(stores, reading, "GetStore", "ListStores", "Get", "List", "ListHistory", "Watch"),
	...rows(stores, entries, "Set", "Delete", "Increment", "Append", "Transact"),
	...rows(stores, batches, "Pipeline"),
	...rows(stores, { ...read, callers: "operator" }, "BackupStore"),
	...rows(stores, { ...control, maxRequestBytes: 4 * MIB }, "RestoreStore"),

	...rows(security, control, "IssueCredential", "RevokeCredential", "SetPermissions", "SetTrustLevel"),
	...rows(security, { ...read, callers: "operator" }, "GetPermissions", "GetTrustLevel"),

	...rows(hub, read, "GetHubInfo"),
	...rows(hub, { ...read, callers: "operator" }, "ListNodes"),
	...rows(hub, { ...control, maxRequestBytes: 4 * KIB }, "BackupState"),
]);

/**
 * The same for a hub that takes nobody without a credential: who would be refused by the handler is refused before the hub
 * reads, and keeps, what it sent.
 */
export const CLOSED_POLICIES: MethodPolicies = new Map(
	[...METHOD_POLICIES].map(([path, policy]) => [
		path,
		policy.callers === "enrolling" ? Object.freeze({ ...policy, callers: "authenticated" as const }) : policy,
	]),
);
