import type { Clock, IdSource, Timer } from "../../clock/clock.ts";
import { HubError } from "../../hub-error.ts";
import { repeatUnknown, storageRefusal } from "../../idempotency/storage-refusal.ts";
import type { KvStore, KvWrite } from "../../state/kv-store.ts";
import type { DeadLetterSink } from "./dead-letter-sink.ts";
import type { DurableDefinition } from "./durable-definition.ts";
import { durableKeys } from "./durable-keys.ts";
import { type DurableCounters, type DurableProgress, encodeProgress } from "./durable-progress.ts";
import { type PendingEvent, pendingCost } from "./pending-event.ts";
import { ProgressWriter } from "./progress-writer.ts";

/** Dead letters of one commit: events, and bytes of them (the last may go over). */
const DEAD_EVENTS = 100;
const DEAD_BYTES = 2 * 1024 * 1024;
/** How long progress that nobody waits for stays unwritten, in milliseconds. */
const LAZY_MS = 5000;

export interface ProgressKeeperOptions {
	readonly definition: DurableDefinition;
	readonly kv: KvStore;
	readonly clock: Clock;
	readonly ids: IdSource;
	readonly sink: DeadLetterSink;
	readonly counters: DurableCounters;
	/** How far the subscription is now. */
	readonly progress: () => DurableProgress;
	/** Called when the event is about to be stored as dead: it counts as settled from then on. */
	readonly onBury: (event: PendingEvent) => void;
	/** Told once that nothing can be stored any more. */
	readonly onFailure: (error: unknown) => void;
}

/**
 * Stores how far a durable subscription is, and the events it sets aside in the same commits. A commit is refused once
 * the subscription was reset or deleted.
 */
export class ProgressKeeper {
	readonly #options: ProgressKeeperOptions;
	readonly #writer = new ProgressWriter(() => this.#store());
	readonly #dying: { readonly event: PendingEvent; readonly reason: string }[] = [];
	#lazy: Timer | undefined;

	constructor(options: ProgressKeeperOptions) {
		this.#options = options;
	}

	/** Events that are to be set aside, and whose commit has not begun. */
	get dying(): number {
		return this.#dying.length;
	}

	/** Something was settled. */
	mark(): void {
		this.#lazy?.cancel();
		this.#lazy = undefined;
		this.#writer.mark();
	}

	/** Something changed that nobody waits for: it is stored with the next settlement, or a little later. */
	touch(): void {
		this.#lazy ??= this.#options.clock.after(LAZY_MS, () => this.mark());
	}

	/** Sets the event aside. */
	bury(event: PendingEvent, reason: string): void {
		this.#dying.push({ event, reason });
		this.mark();
	}

	/** Resolves when everything settled so far is stored; rejects where it cannot be, or may not have been. */
	stored(): Promise<void> {
		return this.#writer.stored();
	}

	/** Stores nothing more; who waits gets the error. */
	fail(error: unknown): void {
		this.stop();
		this.#writer.fail(error);
	}

	/** Ends its timer. */
	stop(): void {
		this.#lazy?.cancel();
		this.#lazy = undefined;
	}

	async #store(): Promise<void> {
		let dying = this.#dying.length;
		try {
			do dying -= await this.#commit(dying);
			while (dying > 0);
		} catch (error) {
			const refusal = storageRefusal(error);
			this.#options.onFailure(refusal);
			throw refusal;
		}
	}

	/** Buries at most so many, and says how many. */
	async #commit(dying: number): Promise<number> {
		const { kv, ids, definition, progress, onBury } = this.#options;
		const { pluginId, name, revision } = definition;
		const writes: KvWrite[] = [];
		let buried = 0;
		for (let bytes = 0; buried < Math.min(dying, DEAD_EVENTS) && bytes < DEAD_BYTES; buried++) {
			const { event, reason } = this.#dying.shift()!;
			writes.push(...this.#park(event, reason));
			onBury(event);
			bytes += pendingCost(event);
		}
		writes.push({ key: durableKeys.progress(pluginId, name), value: encodeProgress(progress()) });
		const checks = [{ key: durableKeys.definition(pluginId, name), revision }];
		const result = await repeatUnknown(kv, { id: ids.next(), checks, writes });
		if (!result.ok) throw new HubError("SUBSCRIPTION_RESET", "the durable subscription was reset or deleted");
		return buried;
	}

	#park({ entry, attempts }: PendingEvent, reason: string): readonly KvWrite[] {
		const { clock, counters, definition, sink } = this.#options;
		const { pluginId, name } = definition;
		// The event is what follows the tag and the length.
		let start = 1;
		while (entry[start]! >= 0x80) start++;
		const event = entry.subarray(start + 1);
		const ordinal = counters.dead++;
		return sink.park({ pluginId, subscription: name, ordinal, event, attempts, reason, time: clock.now() });
	}
}
