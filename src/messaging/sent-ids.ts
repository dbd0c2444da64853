import { hash } from "node:crypto";
import type { Clock } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";

/** What a message id was first answered with. */
export interface FirstSend<A> {
	readonly digest: string;
	readonly answer: A;
}

/** How long an id is remembered at least, unless more than `GENERATION_IDS` newer ones come in. */
const WINDOW_MS = 2 * 60 * 1000;

/** Ids in each of the two generations, about 15 MiB. */
const GENERATION_IDS = 50_000;

/**
 * The message ids that senders have used lately, with their first answers. In memory: it covers messages that are
 * themselves no more than in memory. Two generations, so that forgetting costs nothing.
 */
export class SentIds<A> {
	readonly #clock: Clock;
	#young = new Map<string, FirstSend<A>>();
	#old = new Map<string, FirstSend<A>>();
	#youngSince: number;

	constructor(clock: Clock) {
		this.#clock = clock;
		this.#youngSince = clock.monotonic();
	}

	get size(): number {
		return this.#young.size + this.#old.size;
	}

	/** The first answer, or undefined for a new id. The same id with another digest is ID_REUSED. */
	find(source: string, id: string, digest: string): A | undefined {
		this.#rotate();
		const key = `${source}\n${id}`;
		const first = this.#young.get(key) ?? this.#old.get(key);
		if (first === undefined) return undefined;
		if (first.digest !== digest) {
			throw new HubError("ID_REUSED", "the message id was used before with other content", { metadata: { id } });
		}
		return first.answer;
	}

	remember(source: string, id: string, digest: string, answer: A): void {
		this.#rotate();
		this.#young.set(`${source}\n${id}`, { digest, answer });
	}

	#rotate(): void {
		const now = this.#clock.monotonic();
		const age = now - this.#youngSince;
		if (age < WINDOW_MS && this.#young.size < GENERATION_IDS) return;
		this.#old = age < 2 * WINDOW_MS ? this.#young : new Map();
		this.#young = new Map();
		this.#youngSince = now;
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
