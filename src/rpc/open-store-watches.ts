import { HubError } from "../hub-error.ts";
import type { AuditRecorder } from "../security/audit-entry.ts";
import { type Caller, principalOf } from "../security/caller.ts";
import { noSuchStore } from "../security/guard-rules.ts";
import type { OpenStore } from "../stores/open-store.ts";
import type { StoreListener } from "../stores/store-change.ts";
import type { StoreAdmission } from "./store-admission.ts";

/** A watch of a store's entries, as what it stands on sees it. */
export interface StandingWatch {
	readonly caller: Caller;
	/** As it was when the watch was admitted. */
	readonly store: Pick<OpenStore, "id" | "name">;
	/** Ends the watch. Called once at most, and not after the watch was taken out. Must not throw. */
	end(error: HubError): void;
}

export interface OpenStoreWatchesOptions {
	readonly stores: { find(name: string): OpenStore | undefined; onChange(listener: StoreListener): Disposable };
	/** Told of plugins of which what a store's lists look at may have changed. */
	readonly onPluginChange: (listener: (pluginId: string) => void) => Disposable;
	readonly admission: Pick<StoreAdmission, "recheck">;
	readonly audit: AuditRecorder;
}

/**
 * All watches of stores that are open, so that each ends as soon as its store is deleted, or as its caller is no longer
 * admitted: by the store's lists, by its own categories, trust and grants. A change looks at those alone whom it concerns.
 */
export class OpenStoreWatches implements Disposable {
	readonly #options: OpenStoreWatchesOptions;
	readonly #byStore = new Map<string, Set<StandingWatch>>();
	readonly #byPlugin = new Map<string, Set<StandingWatch>>();
	readonly #subscriptions: readonly Disposable[];

	constructor(options: OpenStoreWatchesOptions) {
		this.#options = options;
		this.#subscriptions = [
			options.stores.onChange((name) => this.#recheckAll(this.#byStore.get(name))),
			options.onPluginChange((pluginId) => this.#recheckAll(this.#byPlugin.get(pluginId))),
		];
	}

	/** Watches that are open. */
	get size(): number {
		let size = 0;
		for (const watches of this.#byStore.values()) size += watches.size;
		return size;
	}

	/** From now until the result is disposed, the watch is ended where it no longer stands. */
	add(watch: StandingWatch): Disposable {
		put(this.#byStore, watch.store.name, watch);
		if (watch.caller.kind === "plugin") put(this.#byPlugin, watch.caller.id, watch);
		return { [Symbol.dispose]: () => void this.#remove(watch) };
	}

	/** Ends the watch where it no longer stands: with STORE_NOT_FOUND or PERMISSION_REVOKED. */
	recheck(watch: StandingWatch): void {
		const problem = this.#problem(watch);
		if (problem === undefined || !this.#remove(watch)) return;
		watch.end(problem);
	}

	[Symbol.dispose](): void {
		for (const subscription of this.#subscriptions) subscription[Symbol.dispose]();
		this.#byStore.clear();
		this.#byPlugin.clear();
	}

	#recheckAll(watches: ReadonlySet<StandingWatch> | undefined): void {
		for (const watch of [...(watches ?? [])]) this.recheck(watch);
	}

	#problem({ caller, store: { id, name } }: StandingWatch): HubError | undefined {
		const { stores, admission, audit } = this.#options;
		// A store of the same name that came after it is another one.
		if (stores.find(name)?.id !== id) return noSuchStore(name);
		try {
			admission.recheck(caller, name, "read");
			return undefined;
		} catch (error) {
			// What cannot be decided is not admitted.
			const problem = error instanceof HubError ? error : new HubError("INTERNAL", "internal error", { cause: error });
			audit.record({
				event: "stream_revoked",
				actor: "hub",
				target: principalOf(caller),
				reason: problem.reason.toLowerCase(),
				details: { store: name, message: problem.message },
			});
			return problem;
		}
	}

	/** Whether it was there. */
	#remove(watch: StandingWatch): boolean {
		if (watch.caller.kind === "plugin") take(this.#byPlugin, watch.caller.id, watch);
		return take(this.#byStore, watch.store.name, watch);
	}
}

function put(watches: Map<string, Set<StandingWatch>>, key: string, watch: StandingWatch): void {
	const known = watches.get(key);
	if (known === undefined) watches.set(key, new Set([watch]));
	else known.add(watch);
}

function take(watches: Map<string, Set<StandingWatch>>, key: string, watch: StandingWatch): boolean {
	const known = watches.get(key);
	if (known === undefined || !known.delete(watch)) return false;
	if (known.size === 0) watches.delete(key);
	return true;
}
