import type { PendingEvent } from "./pending-event.ts";

/** Events in the order of the log: nearly always they come in that order, so adding and taking are cheap. */
export class ReadyEvents {
	#events: PendingEvent[] = [];
	#head = 0;

	get size(): number {
		return this.#events.length - this.#head;
	}

	add(event: PendingEvent): void {
		const last = this.#events.at(-1);
		if (this.size === 0 || last!.sequence < event.sequence) {
			this.#events.push(event);
			return;
		}
		let low = this.#head;
		let high = this.#events.length;
		while (low < high) {
			const middle = (low + high) >>> 1;
			if (this.#events[middle]!.sequence < event.sequence) low = middle + 1;
			else high = middle;
		}
		if (low === this.#head && this.#head > 0) this.#events[--this.#head] = event;
		else this.#events.splice(low, 0, event);
	}

	/** The oldest; undefined where there is none. */
	take(): PendingEvent | undefined {
		if (this.size === 0) return undefined;
		const event = this.#events[this.#head++]!;
		if (this.#head === this.#events.length) {
			this.#events = [];
			this.#head = 0;
		} else if (this.#head > 1024 && this.#head * 2 > this.#events.length) {
			this.#events = this.#events.slice(this.#head);
			this.#head = 0;
		}
		return event;
	}
}
