/** The 64-bit hash of a text as two unsigned halves. Not for use against someone who knows the seed. */
export interface TextHash {
	readonly high: number;
	readonly low: number;
}

/** Two 32-bit multiply-and-rotate passes over the text's UTF-16 units. Stored, so it must never change. */
export function hashText(text: string, seed: number): TextHash {
	let high = seed ^ text.length;
	let low = Math.imul(seed ^ 0x51ed270b, 0x9e3779b1);
	for (let index = 0; index < text.length; index++) {
		const unit = text.charCodeAt(index);
		high = Math.imul(((high << 13) | (high >>> 19)) ^ unit, 0x2c1b3c6d);
		low = Math.imul(((low << 7) | (low >>> 25)) + unit, 0x297a2d39);
	}
	high ^= low >>> 15;
	low ^= Math.imul(high, 0x85ebca6b) >>> 13;
	return { high: mix(high), low: mix(low) };
}

function mix(value: number): number {
	let mixed = Math.imul(value ^ (value >>> 16), 0x45d9f3b5);
	mixed = Math.imul(mixed ^ (mixed >>> 15), 0x2c9277b5);
	return (mixed ^ (mixed >>> 16)) >>> 0;
}
