import { type Permissions, type StoreGrant, TrustLevel } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import { type Pattern, parsePattern } from "../subjects/pattern.ts";
import { isCovered } from "../subjects/pattern-subset.ts";
import type { StoreAccess } from "./actions.ts";
import { trustReaches } from "./trust.ts";

/** Decisions that one list of patterns remembers, of subjects of at most `REMEMBERED_LENGTH` characters. */
const REMEMBERED_DECISIONS = 64;
const REMEMBERED_LENGTH = 128;

/** Granted patterns. What was decided for a subject is remembered: a plugin emits few types many times. */
export class PatternGrants {
	readonly #patterns: readonly Pattern[];
	#decisions: Map<string, boolean> | undefined;

	constructor(patterns: readonly Pattern[]) {
		this.#patterns = patterns;
	}

	/** Whether a grant matches the subject of this canonical form. */
	admits(canonical: string): boolean {
		const known = this.#decisions?.get(canonical);
		if (known !== undefined) return known;
		const admitted = this.#patterns.some((pattern) => pattern.matches(canonical));
		if (canonical.length <= REMEMBERED_LENGTH) {
			if (this.#decisions === undefined || this.#decisions.size >= REMEMBERED_DECISIONS) this.#decisions = new Map();
			this.#decisions.set(canonical, admitted);
		}
		return admitted;
	}

	/** The first of the patterns that no grant alone covers. A grant on `a.b` does not cover `a.*`. */
	firstUncovered(patterns: readonly Pattern[]): Pattern | undefined {
		return patterns.find((pattern) => !isCovered(pattern, this.#patterns));
	}
}

/** Granted plugin ids, or all of them. */
class IdGrants {
	readonly #all: boolean;
	readonly #ids: ReadonlySet<string>;

	constructor(ids: readonly string[]) {
		this.#all = ids.includes("*");
		this.#ids = new Set(ids);
	}

	/** Whether no id at all is admitted. */
	get isEmpty(): boolean {
		return this.#ids.size === 0;
	}

	admits(id: string): boolean {
		return this.#all || this.#ids.has(id);
	}
}

/** Each of these grants gives the access. */
const RIGHTS: Readonly<Record<StoreAccess, readonly ("read" | "write" | "create")[]>> = {
	read: ["read"],
	write: ["write"],
	create: ["create"],
	see: ["read", "write"],
	administer: ["write"],
	own: ["write"],
};

export type StoreDecision = "admitted" | "not-granted" | "trust-too-low";

/** What a plugin may do, ready to be asked. Default deny: what is not granted is refused. */
export class Grants {
	readonly sendTo: IdGrants;
	readonly receiveFrom: IdGrants;
	readonly emit: PatternGrants;
	readonly subscribe: PatternGrants;
	readonly replay: PatternGrants;
	readonly publishTopics: PatternGrants;
	readonly subscribeTopics: PatternGrants;
	readonly capabilities: PatternGrants;
	readonly broadcast: boolean;
	/** Counts for TRUSTED and above only. */
	readonly intercept: boolean;
	readonly #stores: readonly StoreGrant[];

	/** `permissions` were validated when they were set. */
	constructor(permissions: Permissions) {
		this.sendTo = new IdGrants(permissions.sendTo);
		this.receiveFrom = new IdGrants(permissions.receiveFrom);
		this.emit = patternGrants(permissions.emit);
		this.subscribe = patternGrants(permissions.subscribe);
		this.replay = patternGrants(permissions.replay);
		this.publishTopics = patternGrants(permissions.publishTopics);
		this.subscribeTopics = patternGrants(permissions.subscribeTopics);
		this.capabilities = patternGrants(permissions.capabilities);
		this.broadcast = permissions.broadcast;
		this.intercept = permissions.intercept;
		this.#stores = permissions.stores;
	}

	/**
	 * Whether any grant on the store gives the access; a grant that requires trust counts for TRUSTED and above only. To its owner a
	 * grant to create the store gives all.
	 */
	store(name: string, access: StoreAccess, isOwner: boolean, trust: TrustLevel): StoreDecision {
		const rights = RIGHTS[access];
		let decision: StoreDecision = "not-granted";
		for (const grant of this.#stores) {
			if (grant.store !== "*" && grant.store !== name) continue;
			if (!rights.some((right) => grant[right]) && !(isOwner && grant.create)) continue;
			if (!grant.requiresTrust || trustReaches(trust, TrustLevel.TRUSTED)) return "admitted";
			decision = "trust-too-low";
		}
		return decision;
	}
}

function patternGrants(patterns: readonly string[]): PatternGrants {
	return new PatternGrants(patterns.map((pattern) => parsePattern(pattern, "permissions")));
}
