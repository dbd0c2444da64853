import { HubError } from "../hub-error.ts";

/** Where a request stream gets its bytes from: it is told to hold them back while too much waits. */
export interface RequestSource {
	pause(): void;
	resume(): void;
}

/** Bytes of undelivered requests above which the peer is held back. One network read may come on top. */
const HIGH_WATER_BYTES = 256 * 1024;

/** Undelivered requests above which the peer is held back, so that empty messages do not pile up. */
const HIGH_WATER_MESSAGES = 1024;

/** Places of delivered requests that may stand before those that wait. */
const MAX_DELIVERED = 1024;

/**
 * The requests of a bidi call, pulled by one handler. What waits is bounded by holding the peer back: at most
 * `HIGH_WATER_BYTES` or `HIGH_WATER_MESSAGES`, and one network read.
 */
export class RequestStream<T> implements AsyncIterableIterator<T> {
	readonly #source: RequestSource;
	readonly #decode: (message: Uint8Array) => T;
	#waiting: (Uint8Array | undefined)[] = [];
	#head = 0;
	#bytes = 0;
	#paused = false;
	#ended = false;
	#error: unknown;
	#reader: { resolve: (result: IteratorResult<T>) => void; reject: (error: unknown) => void } | undefined;

	/** `decode` may throw: the reader is told, and the stream ends. */
	constructor(source: RequestSource, decode: (message: Uint8Array) => T) {
		this.#source = source;
		this.#decode = decode;
	}

	push(message: Uint8Array): void {
		if (this.#ended) return;
		this.#waiting.push(message);
		this.#bytes += message.byteLength;
		if (this.#reader) {
			const { resolve, reject } = this.#reader;
			this.#reader = undefined;
			try {
				resolve(this.#take());
			} catch (error) {
				reject(error);
			}
		} else if (
			!this.#paused &&
			(this.#bytes > HIGH_WATER_BYTES || this.#waiting.length - this.#head > HIGH_WATER_MESSAGES)
		) {
			this.#paused = true;
			this.#source.pause();
		}
	}

	/** No more requests come. With an error, what still waits is dropped. The first end wins. */
	end(error?: unknown): void {
		if (this.#ended) return;
		this.#ended = true;
		this.#error = error;
		if (error !== undefined) this.#drop();
		const reader = this.#reader;
		if (!reader) return;
		this.#reader = undefined;
		if (error !== undefined) reader.reject(error);
		else reader.resolve({ done: true, value: undefined });
	}

	next(): Promise<IteratorResult<T>> {
		if (this.#head < this.#waiting.length) {
			try {
				return Promise.resolve(this.#take());
			} catch (error) {
				return Promise.reject(error);
			}
		}
		if (this.#error !== undefined) return Promise.reject(this.#error);
		if (this.#ended) return Promise.resolve({ done: true, value: undefined });
		if (this.#reader) return Promise.reject(new Error("a request stream has one reader"));
		const { promise, resolve, reject } = Promise.withResolvers<IteratorResult<T>>();
		this.#reader = { resolve, reject };
		return promise;
	}

	/** The handler wants no more: what waits is dropped, and the peer is no longer held back. */
	return(): Promise<IteratorResult<T>> {
		this.end();
		this.#drop();
		return Promise.resolve({ done: true, value: undefined });
	}

	[Symbol.asyncIterator](): this {
		return this;
	}

	#take(): IteratorResult<T> {
		const message = this.#waiting[this.#head]!;
		// A reader that never quite catches up must not keep what it has read.
		this.#waiting[this.#head++] = undefined;
		this.#bytes -= message.byteLength;
		if (this.#head === this.#waiting.length) {
			this.#waiting = [];
			this.#head = 0;
			if (this.#paused) this.#resume();
		} else if (this.#head > MAX_DELIVERED) {
			this.#waiting.splice(0, this.#head);
			this.#head = 0;
		}
		try {
			return { done: false, value: this.#decode(message) };
		} catch (error) {
			this.end(error);
			throw error;
		}
	}

	#drop(): void {
		this.#waiting = [];
		this.#head = 0;
		this.#bytes = 0;
		if (this.#paused) this.#resume();
	}

	#resume(): void {
		this.#paused = false;
		this.#source.resume();
	}
}

/** The failure of a request stream whose last message is not complete. */
export function truncated(): HubError {
	return new HubError("MALFORMED_REQUEST", "the request ended in the middle of a message");
}
