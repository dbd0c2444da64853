import type { Clock, Timer } from "../clock/clock.ts";
import type { PluginIndex, PluginTransition } from "./plugin-index.ts";

/** Called once an instance is stored as ended. Must not throw and must return at once. */
export type InstanceEndListener = (pluginId: string, instanceId: string) => void;

export interface LeasesOptions {
	readonly index: PluginIndex;
	readonly clock: Clock;
	/** How long an instance lives without a heartbeat, in milliseconds. */
	readonly leaseMs: number;
	/**
	 * Stores the end of an instance. "kept" where another node keeps its lease. Rejects where the store cannot take it now:
	 * it is asked again.
	 */
	readonly end: (pluginId: string, instanceId: string) => Promise<"ended" | "kept">;
}

interface Lease {
	readonly pluginId: string;
	readonly instanceId: string;
	/** Monotonic milliseconds. */
	end: number;
	/** The leases that end before and after this one. */
	previous: Lease | undefined;
	next: Lease | undefined;
}

const RETRY_MS = 1000;
const ENDS_IN_FLIGHT = 64;

/**
 * The leases of all instances, in memory: a start of the hub gives every stored instance a full one.
 *
 * All leases have one length, so the order in which they were given or renewed is the order in which they end: one list,
 * to whose end a renewed lease moves, and one timer, set for the first to end, serve them all. An instance whose lease is over is not live any
 * more, from that moment; storing its end may take longer.
 *
 * Instances that other nodes keep have leases here too. When such a one ends, `end` says whether its keeper is alive
 * ("kept": another lease) or gone. Bounded by the instances stored.
 */
export class Leases implements AsyncDisposable {
	readonly #index: PluginIndex;
	readonly #clock: Clock;
	readonly #end: LeasesOptions["end"];
	readonly leaseMs: number;
	/** By plugin and instance. */
	readonly #leases = new Map<string, Lease>();
	/** The ends of the list, first to end first. */
	#first: Lease | undefined;
	#last: Lease | undefined;
	/** Leases that are over and whose end is not stored yet. */
	readonly #over: Lease[] = [];
	readonly #ending = new Set<Promise<void>>();
	readonly #listeners = new Set<InstanceEndListener>();
	#timer: Timer | undefined;
	#retry: Timer | undefined;
	#subscription: Disposable | undefined;
	#disposed = false;

	constructor(options: LeasesOptions) {
		this.#index = options.index;
		this.#clock = options.clock;
		this.#end = options.end;
		this.leaseMs = options.leaseMs;
	}

	/** Gives every instance that the index shows a lease, now and from then on. After the index has started. */
	start(): void {
		this.#subscription = this.#index.onTransitions((transitions) => this.#follow(transitions));
		for (const plugin of this.#index.all()) {
			for (const instance of plugin.instances) this.#give(plugin.id, instance.id);
		}
		this.#arm();
	}

	/** Whether the instance is there: its lease runs. */
	isLive(pluginId: string, instanceId: string): boolean {
		const lease = this.#leases.get(nameOf(pluginId, instanceId));
		return lease !== undefined && lease.end > this.#clock.monotonic();
	}

	/** Gives a live instance a new lease. False where it is not live. */
	renew(pluginId: string, instanceId: string): boolean {
		if (!this.isLive(pluginId, instanceId)) return false;
		this.#give(pluginId, instanceId);
		return true;
	}

	/** When the lease ends, in milliseconds since the Unix epoch; undefined where there is none. */
	endOf(pluginId: string, instanceId: string): number | undefined {
		const lease = this.#leases.get(nameOf(pluginId, instanceId));
		return lease && Math.round(this.#clock.now() + lease.end - this.#clock.monotonic());
	}

	onInstanceEnd(listener: InstanceEndListener): Disposable {
		this.#listeners.add(listener);
		return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#disposed = true;
		this.#subscription?.[Symbol.dispose]();
		this.#timer?.cancel();
		this.#retry?.cancel();
		this.#over.length = 0;
		await Promise.all(this.#ending);
		this.#leases.clear();
		this.#first = undefined;
		this.#last = undefined;
		this.#listeners.clear();
	}

	#follow(transitions: readonly PluginTransition[]): void {
		for (const { id, before, after } of transitions) {
			if (before?.instances === after?.instances) continue;
			const now = new Map(after?.instances.map((instance) => [instance.id, instance]));
			for (const instance of before?.instances ?? []) {
				// A new keeper has just heard of the instance, so its lease begins again here too.
				if (now.get(instance.id)?.nodeId === instance.nodeId) now.delete(instance.id);
				else if (!now.has(instance.id)) this.#ended(id, instance.id);
			}
			for (const instanceId of now.keys()) this.#give(id, instanceId);
		}
		this.#arm();
	}

	#ended(pluginId: string, instanceId: string): void {
		const lease = this.#leases.get(nameOf(pluginId, instanceId));
		if (lease) this.#drop(lease);
		for (const listener of [...this.#listeners]) listener(pluginId, instanceId);
	}

	#give(pluginId: string, instanceId: string): void {
		const name = nameOf(pluginId, instanceId);
		let lease = this.#leases.get(name);
		if (lease) this.#unlink(lease);
		else {
			lease = { pluginId, instanceId, end: 0, previous: undefined, next: undefined };
			this.#leases.set(name, lease);
		}
		lease.end = this.#clock.monotonic() + this.leaseMs;
		lease.previous = this.#last;
		if (this.#last) this.#last.next = lease;
		else this.#first = lease;
		this.#last = lease;
	}

	#drop(lease: Lease): void {
		this.#unlink(lease);
		this.#leases.delete(nameOf(lease.pluginId, lease.instanceId));
	}

	#unlink(lease: Lease): void {
		if (lease.previous) lease.previous.next = lease.next;
		else this.#first = lease.next;
		if (lease.next) lease.next.previous = lease.previous;
		else this.#last = lease.previous;
		lease.previous = undefined;
		lease.next = undefined;
	}

	/** Sets the timer for the first lease to end, unless one runs: a renewal in between makes it run early, once. */
	#arm(): void {
		if (this.#disposed || this.#timer !== undefined) return;
		if (this.#first === undefined) return;
		this.#timer = this.#clock.after(Math.ceil(this.#first.end - this.#clock.monotonic()), () => {
			this.#timer = undefined;
			this.#expire();
			this.#arm();
		});
	}

	#expire(): void {
		const now = this.#clock.monotonic();
		for (let lease = this.#first; lease && lease.end <= now; lease = this.#first) {
			this.#drop(lease);
			this.#over.push(lease);
		}
		this.#endNext();
	}

	#endNext(): void {
		while (!this.#disposed && this.#ending.size < ENDS_IN_FLIGHT && this.#over.length > 0) {
			const ending = this.#endOne(this.#over.shift()!).finally(() => {
				this.#ending.delete(ending);
				if (this.#retry === undefined) this.#endNext();
			});
			this.#ending.add(ending);
		}
	}

	async #endOne(lease: Lease): Promise<void> {
		try {
			const outcome = await this.#end(lease.pluginId, lease.instanceId);
			if (outcome === "ended" || this.#disposed) return;
			this.#give(lease.pluginId, lease.instanceId);
			this.#arm();
		} catch {
			if (this.#disposed) return;
			this.#over.push(lease);
			this.#retry ??= this.#clock.after(RETRY_MS, () => {
				this.#retry = undefined;
				this.#endNext();
			});
		}
	}
}

function nameOf(pluginId: string, instanceId: string): string {
	return `${pluginId}/${instanceId}`;
}
