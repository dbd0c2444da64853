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
		for (const { key } of this.#unneeded(first.time)) outcomes.remove(numberKey(key));
		outcomes.put(numberKey(first.firstRevision), Buffer.from(JSON.stringify(group)));
	}

	/** What `write` stored is on the disk. */
	flushed(group: readonly CommitOutcome[]): void {
		const [first] = group;
		if (first === undefined) return;
		for (const { count } of this.#unneeded(first.time)) {
			this.#count -= count;
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

	/** The oldest groups, as far as nobody needs them any more. The same for `write` and `flushed`. */
	#unneeded(now: number): readonly StoredGroup[] {
		let end = this.#head;
		let left = this.#count;
		while (end < this.#groups.length && end < this.#head + DROPS) {
			const { time, count } = this.#groups[end]!;
			if (isRemembered(time, now) && left - count < COMMIT_ID_COUNT) break;
			left -= count;
			end++;
		}
		return this.#groups.slice(this.#head, end);
	}
}
