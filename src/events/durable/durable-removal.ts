import type { Clock, IdSource, Timer } from "../../clock/clock.ts";
import { prefixes } from "../../state/key-layout.ts";
import { KV_LIMITS, type KvStore, type KvWrite } from "../../state/kv-store.ts";
import { prefixEnd } from "../../state/state-backend.ts";
import { decodeDefinition } from "./durable-definition.ts";
import { durableKeys } from "./durable-keys.ts";

const RETRY_MS = 500;
/** Definitions looked at in one turn. */
const PAGE = 200;

export interface DurableRemovalOptions {
	readonly kv: KvStore;
	readonly clock: Clock;
	readonly ids: IdSource;
	/** Told of the definition key of a subscription whose plugin is gone. */
	readonly onGone: (key: string, name: string) => void;
	/** Told of a round that failed; the next one follows half a second later. */
	readonly onFault: (error: unknown) => void;
}

/**
 * Removes the durable subscriptions of plugins that were unregistered. Nobody sees them from the moment of that commit, so
 * this may come later: at the next start, where the hub stopped in between.
 */
export class DurableRemoval implements AsyncDisposable {
	readonly #options: DurableRemovalOptions;
	readonly #stop = new AbortController();
	/** Ends with a round of looking for what is left. */
	#round = new AbortController();
	#running: Promise<void> | undefined;
	#wake: (() => void) | undefined;

	constructor(options: DurableRemovalOptions) {
		this.#options = options;
	}

	start(): void {
		this.#running ??= this.#run();
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#stop.abort();
		this.#round.abort();
		this.#wake?.();
		await this.#running;
	}

	/**
	 * Removes the events that were put back into a subscription that is reset or deleted, as it was at this revision. Never
	 * rejects: nobody sees them any more, and what cannot be removed now is removed half a second later.
	 */
	async discardReturned(pluginId: string, name: string, revision: number): Promise<void> {
		try {
			await this.#removeReturned(pluginId, name, revision);
		} catch (error) {
			this.#options.onFault(error);
			this.#round.abort();
		}
	}

	async #removeReturned(pluginId: string, name: string, revision: number): Promise<void> {
		const start = durableKeys.returnedOf(pluginId, name, revision);
		for (let more = true; more; ) {
			const page = this.#options.kv.range({ start, end: prefixEnd(start), limit: KV_LIMITS.commitWrites });
			more = page.more;
			await this.#commit(page.entries.map(({ key }) => ({ key, delete: true })));
		}
	}

	async #run(): Promise<void> {
		const { signal } = this.#stop;
		while (!signal.aborted) {
			this.#round = new AbortController();
			const { signal: over } = this.#round;
			try {
				const changes = this.#options.kv.watch(prefixes.registrations, { signal: over });
				await this.#removeOrphans("");
				await this.#removeStrays();
				for await (const batch of changes) {
					for (const { key, value } of batch) {
						if (value === undefined) await this.#removeOrphans(key.slice(prefixes.registrations.length));
					}
				}
			} catch (error) {
				if (signal.aborted) return;
				if (!over.aborted) this.#options.onFault(error);
			}
			if (!signal.aborted) await this.#pause();
		}
	}

	/** Those of one plugin, or of all for an empty id, whose registration is another one now or none. */
	async #removeOrphans(pluginId: string): Promise<void> {
		const { kv } = this.#options;
		const prefix = durableKeys.definitions(pluginId);
		let start = prefix;
		for (let more = true; more && !this.#stop.signal.aborted; ) {
			const page = kv.range({ start, end: prefixEnd(prefix), limit: PAGE });
			more = page.more;
			for (const entry of page.entries) {
				start = `${entry.key}\0`;
				const definition = decodeDefinition(entry);
				const owner = `${prefixes.registrations}${definition.pluginId}`;
				if (kv.get(owner)?.createRevision === definition.registrationRevision) continue;
				const { name, revision } = definition;
				const progress = durableKeys.progress(definition.pluginId, name);
				const writes = [
					{ key: entry.key, delete: true as const },
					{ key: progress, delete: true as const },
				];
				// Refused where another plugin of this id has made one of this name meanwhile.
				if (!(await this.#commit(writes, [{ key: entry.key, revision }]))) continue;
				this.#options.onGone(entry.key, name);
				await this.#removeReturned(definition.pluginId, name, revision);
			}
		}
	}

	/** Events that were put back into what is reset or deleted since, where the hub stopped before it removed them. */
	async #removeStrays(): Promise<void> {
		const { kv } = this.#options;
		let start: string = durableKeys.allReturned;
		for (let more = true; more && !this.#stop.signal.aborted; ) {
			const page = kv.range({ start, end: prefixEnd(durableKeys.allReturned), limit: PAGE });
			more = page.more;
			const strays: KvWrite[] = [];
			for (const { key } of page.entries) {
				start = `${key}\0`;
				const { pluginId, name, revision } = durableKeys.parseReturned(key);
				if (kv.get(durableKeys.definition(pluginId, name))?.revision !== revision) strays.push({ key, delete: true });
			}
			await this.#commit(strays);
		}
	}

	async #commit(writes: readonly KvWrite[], checks: { key: string; revision: number }[] = []): Promise<boolean> {
		if (writes.length === 0) return true;
		return (await this.#options.kv.commit({ id: this.#options.ids.next(), checks, writes })).ok;
	}

	async #pause(): Promise<void> {
		let timer: Timer | undefined;
		await new Promise<void>((resolve) => {
			this.#wake = resolve;
			timer = this.#options.clock.after(RETRY_MS, resolve);
		});
		timer?.cancel();
		this.#wake = undefined;
	}
}
