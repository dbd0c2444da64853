/**
 * Stores progress, one commit at a time; each takes everything that was marked before it began. After a failure it stores
 * nothing more.
 */
export class ProgressWriter {
	readonly #write: () => Promise<void>;
	#marked = 0;
	#stored = 0;
	#running = false;
	#failure: { readonly error: unknown } | undefined;
	#waiting: { readonly upTo: number; resolve(): void; reject(error: unknown): void }[] = [];

	/** `write` commits what there is to store when it is called. */
	constructor(write: () => Promise<void>) {
		this.#write = write;
	}

	/** Whether everything that was marked is stored. */
	get isStored(): boolean {
		return this.#stored === this.#marked;
	}

	/** Whether it stores nothing more. */
	get hasFailed(): boolean {
		return this.#failure !== undefined;
	}

	/** There is something to store. */
	mark(): void {
		this.#marked++;
		if (!this.#running && this.#failure === undefined) void this.#run();
	}

	/** Resolves when everything marked so far is stored; rejects where it cannot be, or may not have been. */
	stored(): Promise<void> {
		if (this.#failure !== undefined) return Promise.reject(this.#failure.error);
		if (this.isStored) return Promise.resolve();
		return new Promise((resolve, reject) => {
			this.#waiting.push({ upTo: this.#marked, resolve, reject });
		});
	}

	/** Stores nothing more; who waits gets the error. */
	fail(error: unknown): void {
		if (this.#failure !== undefined) return;
		this.#failure = { error };
		for (const { reject } of this.#waiting.splice(0)) reject(error);
	}

	async #run(): Promise<void> {
		this.#running = true;
		try {
			while (this.#stored < this.#marked && this.#failure === undefined) {
				// What one frame settles is marked one by one, in one turn.
				await Promise.resolve();
				if (this.#failure !== undefined) return;
				const upTo = this.#marked;
				await this.#write();
				this.#stored = upTo;
				const done = this.#waiting.findIndex((waiter) => waiter.upTo > upTo);
				for (const { resolve } of this.#waiting.splice(0, done < 0 ? this.#waiting.length : done)) resolve();
			}
		} catch (error) {
			this.fail(error);
		} finally {
			this.#running = false;
		}
	}
}
