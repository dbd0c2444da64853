import type { Clock, IdSource, Timer } from "../../clock/clock.ts";
import type { LetterChange } from "../../dead-letters/dead-letters.ts";
import { repeatUnknown, storageRefusal } from "../../idempotency/storage-refusal.ts";
import { keys } from "../../state/key-layout.ts";
import { KV_LIMITS, type KvStore, type KvWrite } from "../../state/kv-store.ts";
import type { DurableDefinition } from "./durable-definition.ts";
import { durableKeys } from "./durable-keys.ts";
import { type DurableProgress, encodeProgress } from "./durable-progress.ts";
import { resetError } from "./durable-refusals.ts";
import { ProgressWriter } from "./progress-writer.ts";

/** What one commit takes beside the progress: changes until there are so many writes, or bytes (the last may go over). */
const ENOUGH_WRITES = 800;
const ENOUGH_BYTES = 2 * 1024 * 1024;
/** How long progress that nobody waits for stays unwritten, in milliseconds. */
const LAZY_MS = 5000;

/** A change that is stored in the same commit as the progress that it makes. */
export interface AttachedChange {
	/** Bytes of its writes, about. At most 1.5 MiB. */
	readonly bytes: number;
	/** Called when its commit begins: the progress counts it from then on. At most 110 writes. */
	begin(): readonly KvWrite[];
	/** Called once; also where it never began. */
	readonly settled: LetterChange["settled"];
}

export interface ProgressKeeperOptions {
	readonly definition: DurableDefinition;
	readonly kv: KvStore;
	readonly clock: Clock;
	readonly ids: IdSource;
	/** Of the stored progress that it goes on from. */
	readonly progressRevision: number;
	/** How far the subscription is now. */
	readonly progress: () => DurableProgress;
	/** Told once that nothing can be stored any more. */
	readonly onFailure: (error: unknown) => void;
}

/**
 * Stores how far a durable subscription is, and in the same commits what goes with it. A commit is refused once the
 * subscription was reset or deleted, its plugin is gone, or somebody else has stored progress: one that failed, and whose
 * last commit is on its way yet, and the one after it cannot both go on.
 */
export class ProgressKeeper {
	readonly #options: ProgressKeeperOptions;
	readonly #writer = new ProgressWriter(() => this.#store());
	#attached: AttachedChange[] = [];
	/** Keys to delete: nothing hangs on when. */
	readonly #doomed = new Set<string>();
	#lazy: Timer | undefined;
	#revision: number;

	constructor(options: ProgressKeeperOptions) {
		this.#options = options;
		this.#revision = options.progressRevision;
	}

	/** Whether everything that was marked is stored. */
	get isStored(): boolean {
		return this.#writer.isStored;
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

	/** Stores the change with one of the next commits. */
	attach(change: AttachedChange): void {
		if (this.#writer.hasFailed) {
			change.settled(false);
			return;
		}
		this.#attached.push(change);
		this.mark();
	}

	/** Deletes the key with one of the next commits, unless a change writes it first. */
	doom(key: string): void {
		this.#doomed.add(key);
	}

	/** Resolves when everything settled so far is stored; rejects where it cannot be, or may not have been. */
	stored(): Promise<void> {
		return this.#writer.stored();
	}

	/** Stores nothing more; who waits gets the error. */
	fail(error: unknown): void {
		this.stop();
		this.#writer.fail(error);
		for (const { settled } of this.#attached.splice(0)) settled(false);
	}

	/** Ends its timer. */
	stop(): void {
		this.#lazy?.cancel();
		this.#lazy = undefined;
	}

	async #store(): Promise<void> {
		// What is attached meanwhile has marked as well, and waits for the next time.
		let attached = this.#attached.length;
		try {
			do attached -= await this.#commit(attached);
			while (attached > 0 && this.#attached.length > 0);
		} catch (error) {
			const refusal = storageRefusal(error);
			this.#options.onFailure(refusal);
			throw refusal;
		}
	}

	/** Takes at most so many changes, and says how many. */
	async #commit(most: number): Promise<number> {
		const { kv, ids, definition, progress } = this.#options;
		const { pluginId, name, revision } = definition;
		// Another plugin of this id must not inherit what would be written now.
		if (kv.get(keys.registration(pluginId))?.createRevision !== definition.registrationRevision) throw resetError(name);
		const taken: AttachedChange[] = [];
		let isStored = false;
		try {
			const writes = new Map<string, KvWrite>();
			for (let bytes = 0; taken.length < most && writes.size < ENOUGH_WRITES && bytes < ENOUGH_BYTES; ) {
				const change = this.#attached.shift();
				if (change === undefined) break;
				taken.push(change);
				// A letter may make room for one of the same commit: the later write of a key is the one that counts.
				for (const write of change.begin()) {
					writes.set(write.key, write);
					this.#doomed.delete(write.key);
				}
				bytes += change.bytes;
			}
			const progressKey = durableKeys.progress(pluginId, name);
			const progressWrite = { key: progressKey, value: encodeProgress(progress()) };
			for (const key of this.#doomed) {
				if (writes.size === KV_LIMITS.commitWrites - 1) break;
				this.#doomed.delete(key);
				writes.set(key, { key, delete: true });
			}
			const checks = [
				{ key: durableKeys.definition(pluginId, name), revision },
				{ key: progressKey, revision: this.#revision },
			];
			const commit = { id: ids.next(), checks, writes: [progressWrite, ...writes.values()] };
			const result = await repeatUnknown(kv, commit);
			if (!result.ok) throw resetError(name);
			this.#revision = result.firstRevision;
			isStored = true;
		} finally {
			for (const { settled } of taken) settled(isStored);
		}
		return taken.length;
	}
}
