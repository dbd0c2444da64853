/** Lets what is under way come to rest. */
export function settled(): Promise<void> {
	return new Promise((resolve) => setImmediate(resolve));
}
