import type { LetterChange } from "../../dead-letters/dead-letters.ts";
import { HubError } from "../../hub-error.ts";
import type { KvStore } from "../../state/kv-store.ts";
import type { LogStore } from "../../state/log-store.ts";
import { bareEvent } from "./bare-event.ts";
import { type DeadEvent, encodeDeadEvent, originOf } from "./dead-event.ts";
import type { DeadLetterSink } from "./dead-letter-sink.ts";
import type { DurableDefinition } from "./durable-definition.ts";
import type { PendingEvent } from "./pending-event.ts";
import type { ProgressKeeper } from "./progress-keeper.ts";
import { ReturnedEvents } from "./returned-events.ts";

export interface LetterExchangeOptions {
	readonly definition: DurableDefinition;
	readonly kv: KvStore;
	readonly log: LogStore;
	readonly sink: DeadLetterSink;
	readonly keeper: ProgressKeeper;
	/** Called when the event is about to be stored as a letter: it counts as settled from then on. */
	readonly onGivenUp: (event: PendingEvent) => void;
	/** Called when it is stored that the event is due. */
	readonly onReturned: (event: PendingEvent) => void;
	/** Whether the event was read from the log and is not settled, or is yet to be read. */
	readonly isAhead: (sequence: number) => boolean;
}

/**
 * What goes from a durable subscription to its dead letters, and back.
 *
 * - LE-1 An event is due, or a dead letter, never both: it changes sides in one commit, with the progress.
 * - LE-2 An event that came back is stored beside the log until it is settled. Those are bounded.
 */
export class LetterExchange {
	readonly returned: ReturnedEvents;
	readonly #options: LetterExchangeOptions;
	#dying = 0;

	constructor(options: LetterExchangeOptions) {
		this.#options = options;
		this.returned = new ReturnedEvents(options.kv, options.definition);
	}

	/** Events that are to become dead letters, and whose commit has not begun. */
	get dying(): number {
		return this.#dying;
	}

	/** LE-1. */
	giveUp(event: PendingEvent, reason: string): void {
		const { keeper, onGivenUp } = this.#options;
		this.#dying++;
		let letter: LetterChange | undefined;
		const begin = () => {
			this.#dying--;
			letter = this.#park(event, reason);
			onGivenUp(event);
			return letter.writes;
		};
		keeper.attach({ bytes: event.size, begin, settled: (isStored) => letter?.settled(isStored) });
	}

	/**
	 * LE-1, LE-2. Makes an event due again, as one that was never delivered; `take` gives its letter. Where it is due anyway, as
	 * after a reset, the letter is only removed. Rejects with POSITION_TRIMMED, LIMIT_EXCEEDED, what `take` throws, and where
	 * it cannot be stored, as `ProgressKeeper.stored`; the letter then stays.
	 */
	async takeBack(dead: DeadEvent, take: () => LetterChange): Promise<void> {
		const { keeper, isAhead, onReturned } = this.#options;
		this.#requireEpoch(dead);
		const isDue = this.returned.has(dead.sequence) || isAhead(dead.sequence);
		const back = isDue ? undefined : this.returned.expect(dead);
		let letter: LetterChange;
		try {
			letter = take();
		} catch (error) {
			if (back !== undefined) this.returned.remove(back.event);
			throw error;
		}
		const begin = () => {
			if (back === undefined) return letter.writes;
			back.event.isDue = true;
			return [...letter.writes, back.write];
		};
		const isStored = await new Promise<boolean>((resolve) => {
			const settled = (stored: boolean) => {
				letter.settled(stored);
				if (stored && back !== undefined) onReturned(back.event);
				resolve(stored);
			};
			keeper.attach({ bytes: dead.event.byteLength, begin, settled });
		});
		// Where it is not stored, nothing is any more: this rejects with why.
		if (!isStored) await keeper.stored();
	}

	/** An event counts as settled. */
	forget(event: PendingEvent): void {
		if (event.returnedKey === undefined) return;
		this.returned.remove(event);
		this.#options.keeper.doom(event.returnedKey);
	}

	#park({ entry, sequence, attempts }: PendingEvent, reason: string): LetterChange {
		const { definition, sink, log } = this.#options;
		const { pluginId, name, life } = definition;
		const item = encodeDeadEvent({ event: bareEvent(entry), epoch: log.epoch, sequence, life });
		return sink.park({ pluginId, origin: originOf(name), item, attempts, reason });
	}

	#requireEpoch({ epoch }: DeadEvent): void {
		const { log } = this.#options;
		if (epoch === log.epoch) return;
		throw new HubError("POSITION_TRIMMED", "the log has begun another epoch since", {
			metadata: { epoch: log.epoch, oldest_sequence: String(log.bounds().first) },
		});
	}
}
