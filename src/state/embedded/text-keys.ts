/** How a database whose keys are texts has them written: as UTF-8, straight into LMDB's buffer. They are read as bytes. */
export const textKeys = Object.freeze({
	/** Gives where the key ends. Well-formed texts only: others would collide. */
	writeKey(key: string | Uint8Array, target: Buffer, start: number): number {
		if (typeof key !== "string") {
			target.set(key, start);
			return start + key.length;
		}
		// A UTF-16 unit is at most three bytes; what has no room would be cut off in silence.
		if (start + key.length * 3 > target.length && start + Buffer.byteLength(key) > target.length) {
			throw new RangeError("the key has no room");
		}
		return start + target.write(key, start);
	},

	readKey(source: Uint8Array, start: number, end: number): Uint8Array {
		return Uint8Array.prototype.slice.call(source, start, end);
	},
});
