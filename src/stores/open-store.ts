import type { TrustLevel } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import type { Store, StoreAccess, StoreConfig } from "#gen/qirvo/hub/v1/stores_pb.js";
import { type EntryValidators, NO_VALIDATORS } from "./entry-validators.ts";
import { StoreActivity } from "./store-activity.ts";

/** Who asks, as a store's lists see it. */
export interface StoreCaller {
	readonly pluginId: string;
	readonly categories: readonly string[];
	readonly trust: TrustLevel;
}

/** The three lists of a store. */
export type StoreList = "read" | "write" | "admin";

/** How a caller stands to a list: the owner passes all of them; `trust-too-low` is admitted but for its trust. */
export type ListStanding = "owner" | "admitted" | "trust-too-low" | "not-admitted";

/** What a store or a plugin in it holds. */
export interface StoreHoldings {
	readonly keys: number;
	readonly bytes: number;
}

/** What a list says, ready to be asked. */
interface Admission {
	readonly plugins: ReadonlySet<string>;
	readonly all: boolean;
	readonly categories: ReadonlySet<string>;
	readonly trust: TrustLevel;
}

const KEEPS_NOTHING: StoreHoldings = Object.freeze({ keys: 0, bytes: 0 });

/** A store as operations see it: one revision of it. A change makes another one. */
export class OpenStore {
	readonly name: string;
	/** Of this life of the store: the epoch of its positions. */
	readonly id: string;
	readonly owner: string;
	/** Whether its entries outlive the process. */
	readonly persistent: boolean;
	/** Of the definition. */
	readonly revision: number;
	/** With its defaults filled in. */
	readonly config: StoreConfig;
	/** Milliseconds; 0: for ever. */
	readonly defaultTtlMs: number;
	/** Versions of a key that are kept, the present one included; 1 and more. */
	readonly history: number;
	/** The most of the store, and of what one plugin has written of it. */
	readonly quota: StoreHoldings;
	readonly pluginQuota: StoreHoldings;
	readonly validators: EntryValidators;
	/** The same for all revisions of one life. */
	readonly activity: StoreActivity;
	readonly #stored: Store;
	readonly #lists: Readonly<Record<StoreList, Admission | undefined>>;
	readonly #usage: (storeId: string) => StoreHoldings;

	constructor(options: {
		/** As it is stored: without revision and usage. */
		readonly stored: Store;
		readonly revision: number;
		readonly validators?: EntryValidators;
		readonly activity?: StoreActivity;
		/** Asks what a store holds. */
		readonly usage?: (storeId: string) => StoreHoldings;
	}) {
		const { stored } = options;
		const config = stored.config!;
		this.#stored = stored;
		this.name = stored.name;
		this.id = stored.epoch;
		this.owner = stored.owner;
		this.persistent = config.persistent ?? true;
		this.revision = options.revision;
		this.config = config;
		this.defaultTtlMs = Number(config.defaultTtl?.seconds ?? 0n) * 1000 + (config.defaultTtl?.nanos ?? 0) / 1_000_000;
		this.history = Math.max(1, config.history);
		this.quota = { keys: Number(config.quota!.keys), bytes: Number(config.quota!.bytes) };
		this.pluginQuota = { keys: Number(config.pluginQuota!.keys), bytes: Number(config.pluginQuota!.bytes) };
		this.validators = options.validators ?? NO_VALIDATORS;
		this.activity = options.activity ?? new StoreActivity();
		this.#usage = options.usage ?? (() => KEEPS_NOTHING);
		this.#lists = { read: admission(config.read), write: admission(config.write), admin: admission(config.admin) };
	}

	/** Whether the list, or being the owner, lets the caller through. */
	admits(list: StoreList, caller: StoreCaller): boolean {
		const standing = this.standing(list, caller);
		return standing === "owner" || standing === "admitted";
	}

	standing(list: StoreList, caller: StoreCaller): ListStanding {
		if (caller.pluginId === this.owner) return "owner";
		const admitted = this.#lists[list];
		if (admitted === undefined || !names(admitted, caller)) return "not-admitted";
		return caller.trust >= admitted.trust ? "admitted" : "trust-too-low";
	}

	/** What it holds now. */
	usage(): StoreHoldings {
		return this.#usage(this.id);
	}

	/** As it is shown, with its revision and usage. */
	show(): Store {
		const { keys, bytes } = this.usage();
		return {
			...this.#stored,
			revision: BigInt(this.revision),
			usage: { $typeName: "qirvo.hub.v1.StoreUsage", keys: BigInt(keys), bytes: BigInt(bytes) },
		};
	}
}

function admission(access: StoreAccess | undefined): Admission | undefined {
	if (access === undefined) return undefined;
	return {
		plugins: new Set(access.plugins),
		all: access.plugins.includes("*"),
		categories: new Set(access.categories),
		trust: access.minTrustLevel,
	};
}

function names({ plugins, all, categories }: Admission, caller: StoreCaller): boolean {
	return all || plugins.has(caller.pluginId) || caller.categories.some((category) => categories.has(category));
}
