import { expect } from "vitest";

/** Waits until the condition holds, for a bounded number of turns. */
export async function eventually(condition: () => boolean): Promise<void> {
	for (let round = 0; round < 1000 && !condition(); round++) await new Promise((resolve) => setImmediate(resolve));
	expect(condition()).toBe(true);
}
