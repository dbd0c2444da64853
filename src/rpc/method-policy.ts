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

const probe: MethodPolicy = { callers: "public", rateClass: "none", maxRequestBytes: 4 * KIB, audit: false };

/** The row of every RPC that the hub mounts. */
export const METHOD_POLICIES: MethodPolicies = new Map([
	...rows("grpc.health.v1.Health", probe, "Check", "List", "Watch"),
	...rows("grpc.reflection.v1.ServerReflection", probe, "ServerReflectionInfo"),
	...rows("grpc.reflection.v1alpha.ServerReflection", probe, "ServerReflectionInfo"),
]);

/** The largest request any method takes, in bytes. */
export const MAX_REQUEST_BYTES = 4 * MIB;
