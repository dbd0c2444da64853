/** The event of an entry: what follows the tag and the length. */
export function bareEvent(entry: Uint8Array): Uint8Array {
	let start = 1;
	while (entry[start]! >= 0x80) start++;
	return entry.subarray(start + 1);
}
