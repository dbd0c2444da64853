/**
 * A method that brings its own decoder of responses. The lean transport uses it; every other transport decodes by the
 * method's schema as always, so its caller is ready for both.
 */
export interface SelfDecoding<T> {
	decode(bytes: Uint8Array): T;
}

/** The method's own decoder, where it has one. */
export function ownDecoder(method: object): SelfDecoding<unknown>["decode"] | undefined {
	return (method as Partial<SelfDecoding<unknown>>).decode;
}
