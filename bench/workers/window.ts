/** How many of something may be under way at once. */
export class Window {
	#free: number;
	#waiting: (() => void) | undefined;

	constructor(size: number) {
		this.#free = size;
	}

	/** Undefined where there is room at once. One waiter. */
	enter(): Promise<void> | undefined {
		if (this.#free > 0) {
			this.#free--;
			return undefined;
		}
		const { promise, resolve } = Promise.withResolvers<void>();
		this.#waiting = resolve;
		return promise;
	}

	leave(): void {
		const waiting = this.#waiting;
		this.#waiting = undefined;
		if (waiting) waiting();
		else this.#free++;
	}
}
