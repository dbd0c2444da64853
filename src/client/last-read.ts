/** The longest that is remembered, in bytes. */
const MAX_BYTES = 128;

/**
 * What a field's bytes were read as last. Most messages of a stream have some fields alike: it costs less to see that than to
 * decode them again, and those that wait share one value.
 */
export class LastRead<T> {
	readonly #decode: (bytes: Uint8Array) => T;
	#bytes: Uint8Array | undefined;
	#value: T | undefined;

	/** What `decode` gives must not be changed by anybody. */
	constructor(decode: (bytes: Uint8Array) => T) {
		this.#decode = decode;
	}

	/** The bytes from `start` to `end`, decoded. Throws what `decode` does. */
	read(bytes: Uint8Array, start: number, end: number): T {
		const last = this.#bytes;
		if (last !== undefined && isSame(bytes, start, end, last)) return this.#value as T;
		const own = bytes.subarray(start, end);
		const value = this.#decode(own);
		if (own.byteLength <= MAX_BYTES) {
			this.#bytes = own.slice();
			this.#value = value;
		}
		return value;
	}
}

function isSame(bytes: Uint8Array, start: number, end: number, other: Uint8Array): boolean {
	if (end - start !== other.byteLength) return false;
	for (let at = 0; at < other.byteLength; at++) if (bytes[start + at] !== other[at]) return false;
	return true;
}
