import type { TrustLevel } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import { HubError } from "../hub-error.ts";
import type { StoreAccess, StoreStanding } from "../security/actions.ts";
import type { Caller } from "../security/caller.ts";
import type { ContentFacts } from "../security/content-rule.ts";
import type { Guard } from "../security/guard.ts";
import { noSuchStore } from "../security/guard-rules.ts";
import type { ListStanding, OpenStore, StoreCaller, StoreList } from "../stores/open-store.ts";
import type { Call } from "./call.ts";

/** What the lists of stores ask about a plugin, beside its id. */
export interface PluginStanding {
	/** Of its registration; none where it is not registered. */
	categoriesOf(pluginId: string): readonly string[];
	trustOf(pluginId: string): TrustLevel;
}

export interface StoreAdmissionDeps {
	readonly stores: { find(name: string): OpenStore | undefined };
	readonly plugins: PluginStanding;
	readonly guard: Pick<Guard, "check" | "recheck" | "hasRight">;
}

type Lists = Pick<OpenStore, "owner" | "standing">;

const ALL_LISTS: readonly StoreList[] = ["read", "write", "admin"];

/** The lists of which one must admit a plugin that is not the owner; none: the owner alone may. */
const LISTS_FOR: Readonly<Record<StoreAccess, readonly StoreList[]>> = {
	read: ["read"],
	write: ["write"],
	see: ALL_LISTS,
	administer: ["admin"],
	own: [],
	create: [],
};

/** Is asked where there is no store, so that its absence takes the same work as a store that admits nobody. */
const NO_STORE: Lists = { owner: "", standing: () => "not-admitted" };

/**
 * Whether a caller may do something with a store: the guard decides, of the caller's grants and of what the store's lists say.
 * Whom no list admits gets what one gets of a store that does not exist, by the same way.
 */
export class StoreAdmission {
	readonly #deps: StoreAdmissionDeps;

	constructor(deps: StoreAdmissionDeps) {
		this.#deps = deps;
	}

	/** The store. `content` is what is to be written into it. Records a refusal. */
	admit(
		call: Pick<Call, "caller" | "requestId">,
		name: string,
		access: StoreAccess,
		content?: ContentFacts,
	): OpenStore {
		const { caller } = call;
		const store = this.#deps.stores.find(name);
		const standing = this.#standing(caller, store ?? NO_STORE, access);
		this.#deps.guard.check(caller, { kind: "store", store: name, access, standing }, content, call.requestId);
		// Operators stand outside the lists.
		if (store === undefined) throw noSuchStore(name);
		return store;
	}

	/** Whether the caller may make a store of this name. Records a refusal. */
	admitNew({ caller, requestId }: Call, name: string): void {
		this.#deps.guard.check(caller, { kind: "store", store: name, access: "create" }, undefined, requestId);
	}

	/** For what was admitted once: throws PERMISSION_REVOKED, or STORE_NOT_FOUND to an operator, where it no longer would be. */
	recheck(caller: Caller, name: string, access: StoreAccess): void {
		const store = this.#deps.stores.find(name);
		const standing = this.#standing(caller, store ?? NO_STORE, access);
		this.#deps.guard.recheck(caller, { kind: "store", store: name, access, standing });
		if (store === undefined) throw noSuchStore(name);
	}

	/** Which stores the caller is shown in a list of them. Records nothing. */
	shows(caller: Caller): (store: OpenStore) => boolean {
		if (caller.kind === "operator") return () => true;
		if (caller.kind === "anonymous") return () => false;
		return (store) => {
			const standing = this.#standing(caller, store, "see");
			return this.#deps.guard.hasRight(caller, { kind: "store", store: store.name, access: "see", standing });
		};
	}

	#standing(caller: Caller, store: Lists, access: StoreAccess): StoreStanding {
		if (caller.kind !== "plugin") return "unknown";
		if (store.owner === caller.id) return "owner";
		const { plugins } = this.#deps;
		const asked = {
			pluginId: caller.id,
			categories: plugins.categoriesOf(caller.id),
			trust: plugins.trustOf(caller.id),
		};
		const lists = LISTS_FOR[access];
		if (some(store, lists, asked, "admitted")) return "admitted";
		if (!some(store, ALL_LISTS, asked, "admitted")) return "unknown";
		return some(store, lists, asked, "trust-too-low") ? "trust-too-low" : "not-admitted";
	}
}

function some(store: Lists, lists: readonly StoreList[], caller: StoreCaller, standing: ListStanding): boolean {
	return lists.some((list) => store.standing(list, caller) === standing);
}

/** The plugin that makes the call. The method policy lets no others through; this holds where a service is mounted without one. */
export function writerOf({ caller }: Pick<Call, "caller">): string {
	if (caller.kind === "plugin") return caller.id;
	throw new HubError("CALLER_NOT_ALLOWED", "this call is for plugins");
}
