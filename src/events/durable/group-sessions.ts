import { HubError } from "../../hub-error.ts";
import type { ConsumerSession, LostEvents } from "./consumer-session.ts";
import { DURABLE_LIMITS, type DurableDefinition } from "./durable-definition.ts";

/** The sessions that consume one durable subscription. */
export class GroupSessions implements Iterable<ConsumerSession> {
	readonly #sessions = new Map<string, ConsumerSession>();
	/** Losses that no session was there to be told of. */
	#untold: LostEvents | undefined;

	get size(): number {
		return this.#sessions.size;
	}

	get(id: string): ConsumerSession | undefined {
		return this.#sessions.get(id);
	}

	/** Refuses with LIMIT_EXCEEDED. */
	requireRoom({ pluginId, name }: DurableDefinition): void {
		const { sessions: most } = DURABLE_LIMITS;
		if (this.#sessions.size < most) return;
		throw new HubError("LIMIT_EXCEEDED", `${most} sessions consume "${name}" already`, {
			metadata: { limit: String(most) },
			quota: { subject: `plugin:${pluginId}`, description: `at most ${most} sessions of a durable subscription` },
		});
	}

	add(session: ConsumerSession): void {
		this.#sessions.set(session.id, session);
		if (this.#untold !== undefined) session.tellLost(this.#untold);
		this.#untold = undefined;
	}

	remove(session: ConsumerSession): void {
		this.#sessions.delete(session.id);
	}

	/** Tells all of them; where there are none, the next one. */
	tellLost({ lost, upTo }: LostEvents): void {
		if (this.size === 0) this.#untold = { lost: (this.#untold?.lost ?? 0) + lost, upTo };
		for (const session of this.#sessions.values()) session.tellLost({ lost, upTo });
	}

	/** How many would take an event now, one that is just asking included. */
	asking(session: ConsumerSession): number {
		let asking = 1;
		for (const other of this.#sessions.values()) if (other !== session && other.isAsking) asking++;
		return asking;
	}

	/**
	 * Wakes those that would take an event, the least busy first. All of them, however few events there are: one whose peer
	 * turns out to take no frame must not keep an event from the others.
	 */
	wake(): void {
		const hungry = [...this.#sessions.values()].filter((session) => session.isHungry);
		if (hungry.length > 1) hungry.sort((a, b) => a.load - b.load);
		for (const session of hungry) session.wake();
	}

	/** Wakes those that are yet to be told that nothing waits any more. */
	wakeToTell(): void {
		for (const session of this.#sessions.values()) {
			if (session.isHungry && !session.toldCaughtUp) session.wake();
		}
	}

	/** As they are now: they may leave meanwhile. */
	[Symbol.iterator](): IterableIterator<ConsumerSession> {
		return [...this.#sessions.values()].values();
	}
}
