import { hash } from "node:crypto";
import type { Clock } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";

/** What a message id was first answered with. */
export interface FirstSend<A> {
	readonly digest: string;
	readonly answer: A;
}

/** How long an id is remembered at least, unless its sender has most of `MAX_IDS`. */
const WINDOW_MS = 2 * 60 * 1000;

/** Ids in all, about 30 MiB. */
const MAX_IDS = 100_000;

/** Ids that are forgotten together where there are too many. */
const FORGOTTEN_IDS = 500;

/**
 * The message ids that senders have used lately, with their first answers. In memory: it covers messages that are
 * themselves no more than in memory. Two generations, so that forgetting costs nothing. Where there are too many, the sender
 * that has most loses its oldest: a flood of one ends the window of no other.
 */
export class SentIds<A> {
	readonly #clock: Clock;
	readonly #max: number;
	#young = new Generation<A>();
	#old = new Generation<A>();
	#youngSince: number;

	constructor(clock: Clock, max: number = MAX_IDS) {
		this.#clock = clock;
		this.#max = max;
		this.#youngSince = clock.monotonic();
	}

	get size(): number {
		return this.#young.size + this.#old.size;
	}

	/** The first answer, or undefined for a new id. The same id with another digest is ID_REUSED. */
	find(source: string, id: string, digest: string): A | undefined {
		this.#rotate();
		const first = this.#young.get(source, id) ?? this.#old.get(source, id);
		if (first === undefined) return undefined;
		if (first.digest !== digest) {
			throw new HubError("ID_REUSED", "the message id was used before with other content", { metadata: { id } });
		}
		return first.answer;
	}

	remember(source: string, id: string, digest: string, answer: A): void {
		this.#rotate();
		this.#young.set(source, id, { digest, answer });
		if (this.size > this.#max) this.#makeRoom();
	}

	#makeRoom(): void {
		let most = "";
		let count = 0;
		for (const source of new Set([...this.#young.sources(), ...this.#old.sources()])) {
			const held = this.#young.countOf(source) + this.#old.countOf(source);
			if (held > count) [most, count] = [source, held];
		}
		const left = FORGOTTEN_IDS - this.#old.dropOldest(most, FORGOTTEN_IDS);
		// What it has just sent stays.
		this.#young.dropOldest(most, Math.min(left, this.#young.countOf(most) - 1));
	}

	#rotate(): void {
		const now = this.#clock.monotonic();
		const age = now - this.#youngSince;
		if (age < WINDOW_MS) return;
		this.#old = age < 2 * WINDOW_MS ? this.#young : new Generation();
		this.#young = new Generation();
		this.#youngSince = now;
	}
}

/** Ids of about one time, by sender, oldest first. */
class Generation<A> {
	size = 0;
	readonly #bySource = new Map<string, Map<string, FirstSend<A>>>();

	get(source: string, id: string): FirstSend<A> | undefined {
		return this.#bySource.get(source)?.get(id);
	}

	set(source: string, id: string, first: FirstSend<A>): void {
		let ids = this.#bySource.get(source);
		if (ids === undefined) {
			ids = new Map();
			this.#bySource.set(source, ids);
		}
		this.size -= ids.size;
		ids.set(id, first);
		this.size += ids.size;
	}

	sources(): Iterable<string> {
		return this.#bySource.keys();
	}

	countOf(source: string): number {
		return this.#bySource.get(source)?.size ?? 0;
	}

	/** At most `count`; how many it were. */
	dropOldest(source: string, count: number): number {
		const ids = this.#bySource.get(source);
		if (ids === undefined) return 0;
		let dropped = 0;
		for (const id of ids.keys()) {
			if (dropped >= count) break;
			ids.delete(id);
			dropped++;
		}
		this.size -= dropped;
		if (ids.size === 0) this.#bySource.delete(source);
		return dropped;
	}
}

/** What two sends of the same message have in common: where it goes and every byte that the sender wrote. */
export function sendDigest(recipient: string, wire: Uint8Array): string {
	return `${recipient}\n${contentDigest(wire)}`;
}

/** The same for one recipient. */
export function contentDigest(wire: Uint8Array): string {
	return hash("sha1", wire, "base64");
}
