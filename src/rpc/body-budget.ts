import { HubError } from "../hub-error.ts";

/** Bytes of requests that are received and not yet handled, by principal. An entry lives as long as it holds any. */
export class BodyBudget {
	readonly #maxBytes: number;
	readonly #held = new Map<string, number>();

	/** `maxBytes` for one principal, and for all callers without a credential together. */
	constructor(maxBytes: number) {
		this.#maxBytes = maxBytes;
	}

	/** Principals that hold something. */
	get size(): number {
		return this.#held.size;
	}

	/** One call of the principal holds `after` bytes in place of `before`. Throws LIMIT_EXCEEDED; then nothing changes. */
	change(principal: string, before: number, after: number): void {
		const held = (this.#held.get(principal) ?? 0) + after - before;
		if (after > before && held > this.#maxBytes) {
			throw new HubError("LIMIT_EXCEEDED", `unfinished requests of ${principal} hold too many bytes`, {
				metadata: { limit: String(this.#maxBytes) },
				quota: { subject: principal, description: `at most ${this.#maxBytes} bytes of unfinished requests` },
			});
		}
		if (held === 0) this.#held.delete(principal);
		else this.#held.set(principal, held);
	}
}
