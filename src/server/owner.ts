/**
 * Owns what was opened, and disposes of it in reverse. `AsyncDisposableStack` without the need for a Node that has it.
 * Idempotent; goes on after a failure and rejects with the first one.
 */
export class Owner implements AsyncDisposable {
	#owned: (AsyncDisposable | Disposable)[] = [];

	/** Takes the resource over and gives it back for use. */
	use<T extends AsyncDisposable | Disposable>(resource: T): T {
		this.#owned.push(resource);
		return resource;
	}

	/** Hands everything over to a new owner and keeps nothing. */
	move(): Owner {
		const next = new Owner();
		next.#owned = this.#owned;
		this.#owned = [];
		return next;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		const owned = this.#owned;
		this.#owned = [];
		const failures: unknown[] = [];
		for (const resource of owned.reverse()) {
			try {
				if (Symbol.asyncDispose in resource) await resource[Symbol.asyncDispose]();
				else resource[Symbol.dispose]();
			} catch (error) {
				failures.push(error);
			}
		}
		if (failures.length > 0) throw failures[0];
	}
}
