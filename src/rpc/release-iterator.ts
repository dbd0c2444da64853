/**
 * Tells an iterator that nobody will ask it for more. Never throws and never rejects: whoever lets go has no use for the
 * failure, and an iterator that is busy ends when it is done.
 */
export async function releaseIterator(iterator: AsyncIterator<unknown> | undefined): Promise<void> {
	try {
		await iterator?.return?.();
	} catch {
		// What a handler fails with after its caller left concerns nobody.
	}
}
