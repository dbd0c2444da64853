/** Lets one reader sleep until there is something to do. */
export class WakeUp {
	#resume: (() => void) | undefined;
	#ended = false;

	/** Something may have come. */
	notify(): void {
		const resume = this.#resume;
		if (resume === undefined) return;
		this.#resume = undefined;
		resume();
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
		}
		return false;
	}
}
