/** LOG-6: the epoch of a new log, made of an unguessable id. */
export function newEpoch(id: string): string {
	const epoch = id.replaceAll(/[^A-Za-z0-9_-]/g, "").slice(0, 12);
	if (epoch === "") throw new RangeError("an epoch is made of an id of URL-safe characters");
	return epoch;
}

/** A 32-bit seed drawn from an unguessable id, for `IdWindow`. */
export function seedOf(id: string): number {
	let seed = 0x1b873593;
	for (let index = 0; index < id.length; index++) {
		seed = Math.imul(((seed << 5) | (seed >>> 27)) ^ id.charCodeAt(index), 0x9e3779b1);
	}
	return seed >>> 0;
}
