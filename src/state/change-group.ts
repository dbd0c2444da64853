import { ChangeLane } from "./change-lane.ts";
import { ChangePacker } from "./change-packer.ts";
import type { PackedChanges } from "./packed-changes.ts";
import type { WatchedGroup } from "./watched-groups.ts";

/** What one commit left in the group. */
interface Kept {
	readonly packed: PackedChanges;
	readonly lanes: readonly ChangeLane[];
	readonly bytes: number;
	/** Monotonic milliseconds. */
	readonly time: number;
}

/** About what a commit takes beside its changes, and each lane that it has changes for. */
const COMMIT_BYTES = 320;
const PART_BYTES = 96;

/**
 * The kept changes of prefixes that share bounds: what is pushed over a bound takes the oldest commits of the group with it
 * and touches no other group. Lanes are as many as have changes or readers.
 */
export class ChangeGroup {
	/** For what is pushed here. */
	readonly packer: ChangePacker;
	readonly #group: WatchedGroup;
	readonly #now: () => number;
	readonly #lanes = new Map<string, ChangeLane>();
	#kept: (Kept | undefined)[] = [];
	#head = 0;
	#changes = 0;
	#bytes = 0;
	/** The newest revision whose changes are no longer here. */
	#trimmed: number;

	constructor(group: WatchedGroup, now: () => number, start: number, commitWrites: number) {
		this.packer = new ChangePacker(commitWrites);
		this.#group = group;
		this.#now = now;
		this.#trimmed = start;
	}

	/** Whether changes of keys that begin with this are kept here. */
	keeps(key: string): boolean {
		for (const prefix of this.#group.prefixes) if (key.startsWith(prefix)) return true;
		return false;
	}

	/** Adds what a commit changed here. */
	push(packed: PackedChanges): void {
		const lanes = this.#pushToLanes(packed);
		const bytes = packed.bytes + COMMIT_BYTES + lanes.length * PART_BYTES;
		this.#kept.push({ packed, lanes, bytes, time: this.#now() });
		this.#changes += packed.count;
		this.#bytes += bytes;
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

	leave(lane: ChangeLane): void {
		lane.leave();
		this.#forget(lane);
	}

	/** Lets go of what is over a bound. */
	prune(): void {
		const { maxChanges, maxBytes, maxAgeMs } = this.#group;
		const expired = this.#now() - maxAgeMs;
		while (this.#head < this.#kept.length) {
			const oldest = this.#kept[this.#head]!;
			if (this.#changes <= maxChanges && this.#bytes <= maxBytes && oldest.time >= expired) break;
			const { packed, lanes, bytes } = oldest;
			this.#changes -= packed.count;
			this.#bytes -= bytes;
			this.#trimmed = packed.revision;
			this.#kept[this.#head++] = undefined;
			for (const lane of lanes) {
				lane.trim();
				this.#forget(lane);
			}
			this.packer.release(packed);
		}
		if (this.#head > 1024 && this.#head * 2 > this.#kept.length) {
			this.#kept = this.#kept.slice(this.#head);
			this.#head = 0;
		}
	}

	/** Gives the lanes that got a part: mostly one. */
	#pushToLanes(packed: PackedChanges): readonly ChangeLane[] {
		const { keys } = packed;
		const first = this.#laneKey(keys[0]!);
		const hasMany = first === "" || (first.endsWith("/") && !this.#isWhole(first));
		let at = 1;
		while (at < keys.length && hasMany && keys[at]!.startsWith(first)) at++;
		if (at === keys.length) {
			const lane = this.#lane(first);
			lane.push(packed, undefined, packed.bytes);
			return [lane];
		}
		const byLane = new Map<string, number[]>([[first, Array.from({ length: at }, (_, place) => place)]]);
		for (; at < keys.length; at++) {
			const key = this.#laneKey(keys[at]!);
			const places = byLane.get(key);
			if (places === undefined) byLane.set(key, [at]);
			else places.push(at);
		}
		const lanes: ChangeLane[] = [];
		for (const [key, places] of byLane) {
			let bytes = 0;
			for (const place of places) bytes += packed.bytesAt(place);
			const lane = this.#lane(key);
			lane.push(packed, places, bytes);
			lanes.push(lane);
		}
		return lanes;
	}

	#lane(key: string): ChangeLane {
		let lane = this.#lanes.get(key);
		if (lane === undefined) {
			// What it had before it was forgotten is gone by the group's bound.
			lane = new ChangeLane(key, this.#trimmed);
			this.#lanes.set(key, lane);
		}
		return lane;
	}

	#forget(lane: ChangeLane): void {
		if (lane.readers === 0 && lane.isEmpty) this.#lanes.delete(lane.key);
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
