import type { Admission, Entrant } from "./admission.ts";
import type { EmitEntry, EmitSink } from "./emit-sink.ts";
import { cancelled } from "./errors.ts";
import type { EncodedEvent } from "./event-encoder.ts";
import type { FeedPosition } from "./feed-position.ts";

/** What an event takes beside its bytes, for the bound of what is on its way. */
const ENTRY_BYTES = 256;

/** An event is stored. */
export interface EmitResult {
	readonly id: string;
	readonly position: FeedPosition;
	/** Whether the id was emitted before; the position is then that of the first time. */
	readonly duplicate: boolean;
}

export interface PendingEmitOptions {
	readonly id: string;
	/** Whether the id is one that this client made: it is then repeated by its own resending alone. */
	readonly own: boolean;
	readonly event: EncodedEvent;
	readonly admission: Admission;
	readonly sink: EmitSink;
	readonly signal: AbortSignal | undefined;
}

/** One `emit`, from the call until it is settled. */
export class PendingEmit implements EmitEntry, Entrant {
	readonly event: EncodedEvent;
	readonly promise: Promise<EmitResult>;
	sentAt: number | undefined = undefined;
	abandoned = false;
	readonly #options: PendingEmitOptions;
	#resolve!: (result: EmitResult) => void;
	#reject!: (error: unknown) => void;
	#abandon: (() => void) | undefined;
	#settled = false;
	#entered = false;

	constructor(options: PendingEmitOptions) {
		this.#options = options;
		this.event = options.event;
		this.promise = new Promise((resolve, reject) => {
			this.#resolve = resolve;
			this.#reject = reject;
		});
	}

	get bytes(): number {
		return ENTRY_BYTES + this.event.byteLength;
	}

	/** Stands in line for a place. */
	start(): void {
		const { admission, signal } = this.#options;
		if (signal !== undefined) {
			this.#abandon = () => {
				this.abandoned = true;
				this.reject(cancelled(signal));
			};
			signal.addEventListener("abort", this.#abandon, { once: true });
		}
		try {
			admission.enter(this);
		} catch (error) {
			this.reject(error);
		}
	}

	enter(): boolean {
		if (this.#settled) return false;
		this.#entered = true;
		this.#options.sink.push(this);
		return true;
	}

	resolve(position: FeedPosition, duplicate: boolean): void {
		if (!this.#settle()) return;
		const { id, own } = this.#options;
		this.#resolve({ id, position, duplicate: duplicate && !own });
	}

	reject(error: unknown): void {
		if (this.#settle()) this.#reject(error);
	}

	#settle(): boolean {
		if (this.#settled) return false;
		this.#settled = true;
		const { admission, signal } = this.#options;
		if (this.#entered) admission.leave(this.bytes);
		if (this.#abandon !== undefined) signal?.removeEventListener("abort", this.#abandon);
		return true;
	}
}
