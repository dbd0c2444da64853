/** The bytes that a varint of this non-negative safe integer takes, 1 to 8. */
export function varintSize(value: number): number {
	if (value < 0x80) return 1;
	if (value < 0x4000) return 2;
	if (value < 0x200000) return 3;
	if (value < 0x10000000) return 4;
	if (value < 0x800000000) return 5;
	let size = 5;
	for (let rest = Math.floor(value / 0x800000000); rest > 0; rest = Math.floor(rest / 0x80)) size++;
	return size;
}

/** Writes a non-negative safe integer as a varint and gives the offset after it. */
export function writeVarint(target: Uint8Array, at: number, value: number): number {
	let rest = value;
	while (rest >= 0x80000000) {
		target[at++] = (rest % 0x80) | 0x80;
		rest = Math.floor(rest / 0x80);
	}
	while (rest >= 0x80) {
		target[at++] = (rest & 0x7f) | 0x80;
		rest >>>= 7;
	}
	target[at++] = rest;
	return at;
}

/** The exact value of the varint that fills `[from, to)`, as a uint64. */
export function exactVarint(bytes: Uint8Array, from: number, to: number): bigint {
	let value = 0n;
	for (let at = to - 1; at >= from; at--) value = (value << 7n) | BigInt(bytes[at]! & 0x7f);
	return BigInt.asUintN(64, value);
}
