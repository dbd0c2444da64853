import type { IdSource } from "../clock/clock.ts";

/**
 * Ids that no other client makes: 96 random bits drawn once, and a count. One draw an id would cost more than the rest of
 * an emit.
 */
export function createClientIds(): IdSource {
	const prefix = Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) =>
		byte.toString(16).padStart(2, "0"),
	).join("");
	let count = 0;
	return { next: () => `${prefix}-${(count++).toString(36)}` };
}
