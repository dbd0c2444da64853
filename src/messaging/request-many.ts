import type { Clock, Timer } from "../clock/clock.ts";
import type { ReplyOutcome, SentRequest } from "./pending-replies.ts";

/** Why no more replies are waited for. */
export type RequestManyEnd = "complete" | "maximum" | "stalled" | "timeout";

/** What came of a request to several. */
export interface RequestManySummary {
	readonly end: RequestManyEnd;
	readonly answered: number;
	readonly failed: number;
	readonly unanswered: number;
}

export interface RequestManyOptions {
	readonly clock: Clock;
	/** When the wait is over, in `Clock.monotonic()` milliseconds. */
	readonly deadline: number;
	/** How long to wait for the next reply, in milliseconds. Undefined: until the deadline. */
	readonly stallMs: number | undefined;
	/** 0: all. */
	readonly maxReplies: number;
	/** `content` is a view, to be copied by whoever keeps it. */
	readonly onReply: (content: Uint8Array, source: string) => void;
	readonly onFailure: (recipient: string, error: unknown) => void;
	/** Once, and the last of what is told; not after `dispose`. */
	readonly onEnd: (summary: RequestManySummary) => void;
}

/** One request to several recipients, from the first that is asked until enough have replied or time is over. */
export class RequestMany implements Disposable {
	readonly #options: RequestManyOptions;
	readonly #pending = new Set<SentRequest>();
	#stall: Timer | undefined;
	#stallFrom = 0;
	/** Recipients that are yet to be asked. */
	#expected = 0;
	#begun = false;
	#answered = 0;
	#failed = 0;
	#ended = false;

	constructor(options: RequestManyOptions) {
		this.#options = options;
	}

	/** Recipients whose reply is waited for. */
	get waiting(): number {
		return this.#pending.size;
	}

	/** Whether no more replies are waited for. */
	get ended(): boolean {
		return this.#ended;
	}

	/** So many recipients will be asked: those that are not when it ends count as unanswered. */
	expect(count: number): void {
		this.#expected += count;
	}

	/**
	 * One of those that are expected, before `begin`. One that cannot be asked is told as a failure. `send` asks it, and tells
	 * how that ended after it has returned, unless it is cancelled before. Gives what the request gave as `inspected`.
	 */
	ask(recipient: string, send: (onOutcome: (outcome: ReplyOutcome) => void) => SentRequest): Promise<void> | undefined {
		this.#expected--;
		try {
			const request = send((outcome) => {
				this.#pending.delete(request);
				this.#settled(recipient, outcome);
			});
			this.#pending.add(request);
			return request.inspected;
		} catch (error) {
			this.fail(recipient, error);
			return undefined;
		}
	}

	/** A recipient that is not even asked. */
	fail(recipient: string, error: unknown): void {
		this.#failed++;
		this.#options.onFailure(recipient, error);
	}

	/** All have been asked. */
	begin(): void {
		if (this.#ended) return;
		this.#begun = true;
		const { clock, stallMs } = this.#options;
		if (this.#pending.size === 0) {
			this.#end("complete");
			return;
		}
		if (stallMs === undefined) return;
		this.#stallFrom = clock.monotonic();
		this.#watchStall(stallMs);
	}

	/** Nobody wants the replies any more. */
	[Symbol.dispose](): void {
		this.#close("CANCELLED");
	}

	/** One timer that looks when the last reply came, so that a reply costs no timer. */
	#watchStall(ms: number): void {
		const { clock, stallMs = 0 } = this.#options;
		this.#stall = clock.after(ms, () => {
			const left = this.#stallFrom + stallMs - clock.monotonic();
			if (left > 0) this.#watchStall(left);
			else this.#end("stalled");
		});
	}

	#settled(recipient: string, outcome: ReplyOutcome): void {
		if (this.#ended) return;
		const { clock, deadline, maxReplies, onReply } = this.#options;
		if (outcome.kind === "reply") {
			this.#answered++;
			this.#stallFrom = clock.monotonic();
			onReply(outcome.content, outcome.source);
			if (this.#answered === maxReplies) this.#end("maximum");
		} else if (outcome.error.reason === "DEADLINE_EXCEEDED" && clock.monotonic() >= deadline) {
			this.#end("timeout", 1);
		} else {
			this.fail(recipient, outcome.error);
		}
		if (this.#pending.size === 0 && this.#begun) this.#end("complete");
	}

	#end(end: RequestManyEnd, late = 0): void {
		if (this.#ended) return;
		const unanswered = this.#pending.size + this.#expected + late;
		this.#close(end === "timeout" ? "DEADLINE_EXCEEDED" : "CANCELLED");
		this.#options.onEnd({ end, answered: this.#answered, failed: this.#failed, unanswered });
	}

	#close(reason: "CANCELLED" | "DEADLINE_EXCEEDED"): void {
		if (this.#ended) return;
		this.#ended = true;
		this.#stall?.cancel();
		for (const pending of this.#pending) pending.cancel(reason);
		this.#pending.clear();
	}
}
