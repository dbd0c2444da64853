import { Code } from "@connectrpc/connect";
import { HubClientError } from "./errors.ts";

/** How many callers may stand in line for a place. */
const LONGEST_LINE = 100_000;
/** What they may stand for together, in bytes, where it is more than one. */
const HEAVIEST_LINE = 256 * 1024 * 1024;

/** Who wants a place. */
export interface Entrant {
	/** About how many bytes it stands for; does not change. */
	readonly bytes: number;
	/** Its turn has come. Says whether it takes the place. */
	enter(): boolean;
}

/**
 * Places for what is on its way, bounded by count and bytes. Who finds none stands in line, first come first served; past
 * `LONGEST_LINE` callers, or `HEAVIEST_LINE` bytes of them, it is refused with BUFFER_FULL.
 */
export class Admission {
	readonly #maxItems: number;
	readonly #maxBytes: number;
	#line: Entrant[] = [];
	/** Where the line begins; what is before it has entered. */
	#head = 0;
	/** Of those who stand in line. */
	#lineBytes = 0;
	#items = 0;
	#bytes = 0;

	constructor(maxItems: number, maxBytes: number) {
		this.#maxItems = maxItems;
		this.#maxBytes = maxBytes;
	}

	/** Items that hold a place. */
	get items(): number {
		return this.#items;
	}

	/** Lets `entrant` enter when there is a place and it is its turn, which may be at once. Throws BUFFER_FULL. */
	enter(entrant: Entrant): void {
		const waiting = this.#line.length - this.#head;
		if (waiting === 0 && this.#fits(entrant.bytes)) {
			this.#admit(entrant);
			return;
		}
		if (waiting >= LONGEST_LINE) {
			throw new HubClientError("BUFFER_FULL", `${LONGEST_LINE} callers wait already`, { code: Code.ResourceExhausted });
		}
		if (waiting > 0 && this.#lineBytes + entrant.bytes > HEAVIEST_LINE) {
			const message = `callers wait already with ${this.#lineBytes} bytes`;
			throw new HubClientError("BUFFER_FULL", message, { code: Code.ResourceExhausted });
		}
		this.#line.push(entrant);
		this.#lineBytes += entrant.bytes;
	}

	/** Gives a place back. */
	leave(bytes: number): void {
		this.#items--;
		this.#bytes -= bytes;
		while (this.#head < this.#line.length && this.#fits(this.#line[this.#head]!.bytes)) {
			const entrant = this.#line[this.#head++]!;
			this.#lineBytes -= entrant.bytes;
			this.#admit(entrant);
			if (this.#head * 2 < this.#line.length) continue;
			this.#line = this.#line.slice(this.#head);
			this.#head = 0;
		}
	}

	#admit(entrant: Entrant): void {
		if (!entrant.enter()) return;
		this.#items++;
		this.#bytes += entrant.bytes;
	}

	/** An item larger than all there is still fits an empty place. */
	#fits(bytes: number): boolean {
		return this.#items < this.#maxItems && (this.#items === 0 || this.#bytes + bytes <= this.#maxBytes);
	}
}
