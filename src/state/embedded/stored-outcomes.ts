import { COMMIT_ID_COUNT, type CommitOutcome, CommitOutcomes, isRemembered } from "../commit-outcomes.ts";
import type { Environment } from "./environment.ts";
import { numberKey } from "./number-key.ts";

/** Entries dropped in one group at most, so that a group stays short. */
const DROPS = 64;

interface StoredGroup {
	readonly key: number;
	readonly time: number;
	readonly count: number;
}

/** The outcomes of applied commits (KV-4), stored in the transaction that applies them: one entry a group. */
export class StoredOutcomes {
	readonly #environment: Environment;
	readonly #outcomes = new CommitOutcomes();
	/** What is stored, oldest first; as many as groups in two minutes, or 100,000. */
	#groups: StoredGroup[] = [];
	#head = 0;
	#count = 0;

	constructor(environment: Environment) {
		this.#environment = environment;
	}

	/** Reads what an earlier process stored. */
	load(): void {
		for (const { key, value } of this.#environment.outcomes.getRange({})) {
			const group = JSON.parse(Buffer.from(value).toString()) as CommitOutcome[];
			for (const outcome of group) this.#outcomes.add(outcome);
			this.#push(Buffer.from(key).readUIntBE(0, 6), group);
		}
	}

	get(id: string, now: number): CommitOutcome | undefined {
		return this.#outcomes.get(id, now);
	}

	/** In the transaction: stores a group's outcomes, and drops a few that nobody needs any more. */
	write(group: readonly CommitOutcome[]): void {
		const [first] = group;
		if (first === undefined) return;
		const { outcomes } = this.#environment;
		for (let at = this.#head; at < this.#groups.length && at < this.#head + DROPS; at++) {
			if (!this.#expired(this.#groups[at]!, first.time)) break;
			outcomes.remove(numberKey(this.#groups[at]!.key));
		}
		outcomes.put(numberKey(first.firstRevision), Buffer.from(JSON.stringify(group)));
	}

	/** What `write` stored is on the disk. */
	flushed(group: readonly CommitOutcome[]): void {
		const [first] = group;
		if (first === undefined) return;
		for (let drops = 0; drops < DROPS && this.#head < this.#groups.length; drops++) {
			const oldest = this.#groups[this.#head]!;
			if (!this.#expired(oldest, first.time)) break;
			this.#count -= oldest.count;
			this.#head++;
		}
		if (this.#head > 1024 && this.#head * 2 > this.#groups.length) {
			this.#groups = this.#groups.slice(this.#head);
			this.#head = 0;
		}
		for (const outcome of group) this.#outcomes.add(outcome);
		this.#push(first.firstRevision, group);
	}

	#push(key: number, group: readonly CommitOutcome[]): void {
		this.#groups.push({ key, time: group[0]!.time, count: group.length });
		this.#count += group.length;
	}

	#expired(group: StoredGroup, now: number): boolean {
		return !isRemembered(group.time, now) || this.#count - group.count >= COMMIT_ID_COUNT;
	}
}
