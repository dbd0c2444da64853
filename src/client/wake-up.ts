/** Lets one reader sleep until there is something to do. */
export class WakeUp {
	#resume: (() => void) | undefined;
	#ended = false;

	/** Something may have come. */
	notify(): void {
		this.#resume?.();
	}

	/** Nothing comes any more. */
	end(): void {
		this.#ended = true;
		this.#resume?.();
	}

	/** True as soon as `isWaiting` says so; false after `end`. */
	async wait(isWaiting: () => boolean): Promise<boolean> {
		while (!this.#ended) {
			if (isWaiting()) return true;
			await new Promise<void>((resolve) => {
				this.#resume = resolve;
			});
			this.#resume = undefined;
		}
		return false;
	}
}
