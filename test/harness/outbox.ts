/** The requests of a bidi call, written by a test as it goes. One reader. */
export class Outbox<T> implements AsyncIterable<T> {
	readonly #waiting: T[];
	#ended = false;
	#wake: (() => void) | undefined;

	constructor(...first: T[]) {
		this.#waiting = first;
	}

	push(...requests: T[]): void {
		this.#waiting.push(...requests);
		this.#wake?.();
	}

	/** Half-closes the call once everything is sent. */
	end(): void {
		this.#ended = true;
		this.#wake?.();
	}

	/** The same, ended. */
	ending(): this {
		this.end();
		return this;
	}

	async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
		while (true) {
			const next = this.#waiting.shift();
			if (next !== undefined) {
				yield next;
				continue;
			}
			if (this.#ended) return;
			await new Promise<void>((resolve) => {
				this.#wake = resolve;
			});
		}
	}
}
