import type { OpenStore } from "../stores/open-store.ts";
import type { StoreActivity } from "../stores/store-activity.ts";
import type { StoreListener } from "../stores/store-change.ts";
import type { Metrics, Sample } from "../telemetry/metrics.ts";

const COUNTERS: Readonly<Record<keyof StoreActivity, string>> = {
	gets: "Entries asked for by key.",
	misses: "Entries asked for by key that were not there.",
	pages: "Pages of entries and of versions.",
	sets: "Values written.",
	deletes: "Entries deleted by plugins.",
	expired: "Entries that ended because their time was over.",
	leaseEnded: "Entries that ended with a lease.",
	mismatches: "Writes refused for an expectation.",
	invalid: "Writes refused by a validator.",
	overQuota: "Writes refused by a quota.",
};
const NAMES = Object.keys(COUNTERS) as (keyof StoreActivity)[];

/** Stores that have series of their own; the others are in the totals alone. */
const MAX_STORES = 100;

/** What is measured of stores. */
export interface MeasuredStores {
	readonly size: number;
	all(): Iterable<OpenStore>;
	find(name: string): OpenStore | undefined;
	onChange(listener: StoreListener): Disposable;
}

/**
 * Registers what stores count: totals for whoever sees the metrics, and series of the first hundred stores, by name, for operators alone:
 * a name tells that the store exists. What is refused because its caller has no right to the store is counted nowhere.
 */
export function registerStoreMetrics(metrics: Metrics, stores: MeasuredStores): void {
	const places = new Places(stores);
	/** What deleted stores had counted. */
	const gone = Object.fromEntries(NAMES.map((name) => [name, 0])) as Record<keyof StoreActivity, number>;
	stores.onChange((_, before, after) => {
		if (before === undefined || before.id === after?.id) return;
		for (const name of NAMES) gone[name] += before.activity[name];
	});
	metrics.gauge("hub_stores", "Stores.", () => stores.size);
	metrics.gauge("hub_store_keys", "Entries of all stores.", () => sum(stores, (store) => store.usage().keys));
	metrics.gauge("hub_store_bytes", "Bytes of the entries of all stores.", () =>
		sum(stores, (store) => store.usage().bytes),
	);
	const each = (read: (store: OpenStore) => number) => (): Sample[] =>
		places.stores().map((store) => ({ value: read(store), labels: { store: store.name } }));
	metrics.detailed(
		"hub_one_store_keys",
		"Entries of a store.",
		"gauge",
		each((store) => store.usage().keys),
	);
	metrics.detailed(
		"hub_one_store_bytes",
		"Bytes of a store's entries.",
		"gauge",
		each((store) => store.usage().bytes),
	);
	for (const name of NAMES) {
		const word = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
		metrics.counter(
			`hub_store_${word}_total`,
			COUNTERS[name],
			() => gone[name] + sum(stores, (store) => store.activity[name]),
		);
		metrics.detailed(
			`hub_one_store_${word}_total`,
			COUNTERS[name],
			"counter",
			each((store) => store.activity[name]),
		);
	}
}

/** Which stores have series. A store keeps its place while it lives, so that its series do not come and go. */
class Places {
	readonly #stores: MeasuredStores;
	readonly #names = new Set<string>();

	constructor(stores: MeasuredStores) {
		this.#stores = stores;
		for (const { name } of stores.all()) this.#take(name);
		stores.onChange((name, before, after) => {
			if (before === undefined) this.#take(name);
			else if (after === undefined) this.#leave(name);
		});
	}

	stores(): readonly OpenStore[] {
		return [...this.#names].map((name) => this.#stores.find(name)).filter((store) => store !== undefined);
	}

	#take(name: string): void {
		if (this.#names.size < MAX_STORES) this.#names.add(name);
	}

	#leave(name: string): void {
		if (!this.#names.delete(name) || this.#stores.size < MAX_STORES) return;
		for (const store of this.#stores.all()) {
			if (this.#names.has(store.name) || store.name === name) continue;
			this.#names.add(store.name);
			return;
		}
	}
}

function sum(stores: MeasuredStores, read: (store: OpenStore) => number): number {
	let total = 0;
	for (const store of stores.all()) total += read(store);
	return total;
}
