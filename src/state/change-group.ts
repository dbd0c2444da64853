import { ChangeLane } from "./change-lane.ts";
import type { KvChange } from "./kv-store.ts";
import type { WatchedGroup } from "./watched-groups.ts";

/** What one commit left in the group. */
interface Kept {
	readonly lanes: readonly ChangeLane[];
	readonly keys: readonly string[];
	readonly revision: number;
	readonly changes: number;
	readonly bytes: number;
	/** Monotonic milliseconds. */
	readonly time: number;
}

const NONE: readonly KvChange[] = Object.freeze([]);

/**
 * The kept changes of prefixes that share bounds: what is pushed over a bound takes the oldest commits of the group with it
 * and touches no other group. Lanes are as many as have changes or readers.
 */
export class ChangeGroup {
	readonly #group: WatchedGroup;
	readonly #now: () => number;
	readonly #lanes = new Map<string, ChangeLane>();
	#kept: Kept[] = [];
	#head = 0;
	#changes = 0;
	#bytes = 0;
	/** The newest revision whose changes are no longer here. */
	#trimmed: number;

	constructor(group: WatchedGroup, now: () => number, start: number) {
		this.#group = group;
		this.#now = now;
		this.#trimmed = start;
	}

	/** Whether changes of keys that begin with this are kept here. */
	keeps(key: string): boolean {
		for (const prefix of this.#group.prefixes) if (key.startsWith(prefix)) return true;
		return false;
	}

	/** Those that are kept here: most commits change keys of one group alone. */
	kept(changes: readonly KvChange[]): readonly KvChange[] {
		let mine = 0;
		for (const { key } of changes) if (this.keeps(key)) mine++;
		if (mine === 0 || mine === changes.length) return mine === 0 ? NONE : changes;
		return changes.filter(({ key }) => this.keeps(key));
	}

	/** Adds what a commit changed here; in order, at least one change. */
	push(revision: number, changes: readonly KvChange[]): void {
		const byLane = new Map<string, KvChange[]>();
		let last: KvChange[] = [];
		let lastKey: string | undefined;
		for (const change of changes) {
			if (lastKey === undefined || !change.key.startsWith(lastKey)) {
				lastKey = this.#laneKey(change.key);
				last = byLane.get(lastKey) ?? [];
				byLane.set(lastKey, last);
			}
			last.push(change);
		}
		const lanes: ChangeLane[] = [];
		let total = 0;
		for (const [key, part] of byLane) {
			const bytes = sizeOf(part);
			total += bytes;
			const lane = this.#lane(key);
			lanes.push(lane);
			lane.push({ revision, changes: part, bytes });
		}
		this.#kept.push({
			lanes,
			keys: [...byLane.keys()],
			revision,
			changes: changes.length,
			bytes: total,
			time: this.#now(),
		});
		this.#changes += changes.length;
		this.#bytes += total;
		this.prune();
	}

	/** Whether the changes under exactly this prefix can be read. */
	serves(prefix: string): boolean {
		return this.keeps(prefix) && (!this.#group.split || this.isLane(prefix));
	}

	/** Whether it is the prefix of all of its lane and of nothing else. */
	isLane(prefix: string): boolean {
		return this.#group.split && prefix.endsWith("/") && this.#laneKey(prefix) === prefix && !this.#isWhole(prefix);
	}

	/** The lane of a prefix that it serves; it stays until `leave`. */
	enter(prefix: string): ChangeLane {
		const lane = this.#lane(this.#laneKey(prefix));
		lane.readers++;
		return lane;
	}

	leave(prefix: string, lane: ChangeLane): void {
		lane.readers--;
		this.#forget(this.#laneKey(prefix), lane);
	}

	/** Lets go of what is over a bound. */
	prune(): void {
		const { maxChanges, maxBytes, maxAgeMs } = this.#group;
		const expired = this.#now() - maxAgeMs;
		while (this.#head < this.#kept.length) {
			const oldest = this.#kept[this.#head]!;
			if (this.#changes <= maxChanges && this.#bytes <= maxBytes && oldest.time >= expired) break;
			this.#changes -= oldest.changes;
			this.#bytes -= oldest.bytes;
			this.#trimmed = oldest.revision;
			this.#head++;
			for (const [index, lane] of oldest.lanes.entries()) {
				lane.trim();
				this.#forget(oldest.keys[index]!, lane);
			}
		}
		if (this.#head > 1024 && this.#head * 2 > this.#kept.length) {
			this.#kept = this.#kept.slice(this.#head);
			this.#head = 0;
		}
	}

	#lane(key: string): ChangeLane {
		let lane = this.#lanes.get(key);
		if (lane === undefined) {
			// What it had before it was forgotten is gone by the group's bound.
			lane = new ChangeLane(this.#trimmed);
			this.#lanes.set(key, lane);
		}
		return lane;
	}

	#forget(key: string, lane: ChangeLane): void {
		if (lane.readers === 0 && lane.isEmpty) this.#lanes.delete(key);
	}

	#isWhole(prefix: string): boolean {
		return this.#group.prefixes.includes(prefix);
	}

	/** Of a key, or of a prefix that is watched. */
	#laneKey(key: string): string {
		if (!this.#group.split) return "";
		const prefix = this.#group.prefixes.find((each) => key.startsWith(each))!;
		const end = key.indexOf("/", prefix.length);
		return end < 0 ? key : key.slice(0, end + 1);
	}
}

function sizeOf(changes: readonly KvChange[]): number {
	let bytes = 0;
	for (const change of changes) bytes += change.size ?? countSize(change);
	return bytes;
}

function countSize({ key, value, oldValue, note }: KvChange): number {
	return key.length + (value?.byteLength ?? 0) + (oldValue?.byteLength ?? 0) + (note?.byteLength ?? 0);
}
