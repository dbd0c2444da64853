import { ConnectError } from "@connectrpc/connect";
import { type Failure, failureFrom } from "./failure.ts";

/** What every frame of the hub's streams looks like. */
interface Framed {
	readonly frame: { readonly case: string; readonly value: unknown } | { readonly case: undefined };
}

type CaseOf<F extends Framed> = NonNullable<F["frame"]["case"]>;
type ValueOf<F extends Framed, C extends CaseOf<F>> = Extract<
	F["frame"],
	{ readonly case: C; readonly value: unknown }
>["value"];

/** A response stream that is read as fast as it comes: its frames so far, and how it ended. */
export class Feed<F extends Framed> {
	readonly frames: F[] = [];
	/** Set once the stream has ended with a status other than OK. */
	failure: Failure | undefined;
	done = false;
	/** Settles with the end of the stream, however it ended. */
	readonly ended: Promise<void>;
	readonly #waiting = new Set<() => void>();

	constructor(stream: AsyncIterable<F>) {
		this.ended = this.#read(stream);
	}

	/** The kinds of the frames so far. */
	get cases(): string[] {
		return this.frames.map(({ frame }) => frame.case ?? "");
	}

	/** The frames of one kind so far. */
	all<C extends CaseOf<F>>(kind: C): ValueOf<F, C>[] {
		return this.frames.flatMap(({ frame }) => (frame.case === kind ? [frame.value as ValueOf<F, C>] : []));
	}

	/** Resolves once a frame of this kind is there, with the first; rejects where the stream ends before. */
	async first<C extends CaseOf<F>>(kind: C): Promise<ValueOf<F, C>> {
		await this.when(() => this.cases.includes(kind));
		return this.all(kind)[0]!;
	}

	/** Resolves once the condition holds; rejects where the stream ends before, or 10 seconds pass. */
	async when(holds: () => boolean): Promise<void> {
		const deadline = performance.now() + 10_000;
		while (!holds()) {
			const state = `frames: ${this.cases.slice(-20).join(", ")}; failure: ${JSON.stringify(this.failure)}`;
			if (this.done) throw new Error(`the stream ended before the condition held; ${state}`);
			if (performance.now() > deadline) throw new Error(`the condition did not come to hold; ${state}`);
			await this.#change(deadline);
		}
	}

	async #change(deadline: number): Promise<void> {
		const { promise, resolve } = Promise.withResolvers<void>();
		const timer = setTimeout(resolve, deadline - performance.now() + 1);
		this.#waiting.add(resolve);
		await promise;
		clearTimeout(timer);
		this.#waiting.delete(resolve);
	}

	async #read(stream: AsyncIterable<F>): Promise<void> {
		try {
			for await (const frame of stream) {
				this.frames.push(frame);
				this.#wake();
			}
		} catch (error) {
			this.failure = failureFrom(ConnectError.from(error));
		} finally {
			this.done = true;
			this.#wake();
		}
	}

	#wake(): void {
		for (const wake of this.#waiting) wake();
	}
}
