/** A whole number below 2^48 as a key that orders as the number does. */
export function numberKey(value: number): Uint8Array {
	const key = Buffer.allocUnsafe(6);
	key.writeUIntBE(value, 0, 6);
	return key;
}
