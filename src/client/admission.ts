import { Code } from "@connectrpc/connect";
import { HubClientError } from "./errors.ts";

/** How many callers may stand in line for a place. */
const LONGEST_LINE = 100_000;

/**
 * Places for what is on its way, bounded by count and bytes. Who finds none stands in line, first come first served; past
 * `LONGEST_LINE` callers it is refused with BUFFER_FULL.
 */
export class Admission {
	readonly #maxItems: number;
	readonly #maxBytes: number;
	readonly #line: { readonly bytes: number; readonly enter: () => boolean }[] = [];
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

	/**
	 * Runs `enter` when there is a place and it is this caller's turn, which may be at once; it says whether it takes the
	 * place. Throws BUFFER_FULL.
	 */
	enter(bytes: number, enter: () => boolean): void {
		if (this.#line.length === 0 && this.#fits(bytes)) {
			this.#admit(bytes, enter);
			return;
		}
		if (this.#line.length >= LONGEST_LINE) {
			throw new HubClientError("BUFFER_FULL", `${LONGEST_LINE} callers wait already`, { code: Code.ResourceExhausted });
		}
		this.#line.push({ bytes, enter });
	}

	/** Gives a place back. */
	leave(bytes: number): void {
		this.#items--;
		this.#bytes -= bytes;
		while (this.#line.length > 0 && this.#fits(this.#line[0]!.bytes)) {
			const next = this.#line.shift()!;
			this.#admit(next.bytes, next.enter);
		}
	}

	#admit(bytes: number, enter: () => boolean): void {
		if (!enter()) return;
		this.#items++;
		this.#bytes += bytes;
	}

	/** An item larger than all there is still fits an empty place. */
	#fits(bytes: number): boolean {
		return this.#items < this.#maxItems && (this.#items === 0 || this.#bytes + bytes <= this.#maxBytes);
	}
}
