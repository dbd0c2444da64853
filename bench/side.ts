import type { Worker } from "./bench.ts";

/** How a publisher keeps its server busy: messages in a batch, and how many batches may be unacknowledged. */
export interface Pace {
	readonly batch: number;
	readonly window: number;
}

/** What the end that is measured says of a round. */
interface Round {
	readonly ms: number;
}

/**
 * The hub or its peer with a publisher and, where delivery is measured, a subscriber that knows the size of a round: each
 * a process of its own. Workers are ready once they have printed a first line.
 */
export class Side implements AsyncDisposable {
	/** Messages a second, a round each: at the subscriber where there is one, else until the last acknowledgement. */
	readonly rates: number[] = [];
	readonly #server: AsyncDisposable;
	readonly #publisher: Worker;
	readonly #subscriber: Worker | undefined;
	#from = 0;
	#pace: Pace | undefined;

	constructor(server: AsyncDisposable, publisher: Worker, subscriber?: Worker) {
		this.#server = server;
		this.#publisher = publisher;
		this.#subscriber = subscriber;
	}

	/** Warms every process up, and settles on the fastest pace. */
	async warmUp(count: number, paces: readonly Pace[]): Promise<void> {
		await this.#publisher.json();
		await this.#subscriber?.json();
		let best = 0;
		for (const pace of [paces[0]!, ...paces]) {
			const rate = await this.#round(count, pace);
			if (rate > best) {
				best = rate;
				this.#pace = pace;
			}
		}
	}

	async measure(count: number): Promise<void> {
		if (!this.#pace) throw new Error("measured before it was warm");
		this.rates.push(await this.#round(count, this.#pace));
	}

	async #round(count: number, pace: Pace): Promise<number> {
		const published = this.#publisher.ask<Round>({ from: this.#from, count, ...pace });
		this.#from += count;
		const [sent, received] = await Promise.all([published, this.#subscriber?.json<Round>()]);
		return (count / (received ?? sent).ms) * 1000;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.#publisher[Symbol.asyncDispose]();
		await this.#subscriber?.[Symbol.asyncDispose]();
		await this.#server[Symbol.asyncDispose]();
	}
}
