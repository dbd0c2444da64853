/**
 * A method that brings its own encoder of requests. The lean transport uses it; every other transport encodes by the
 * method's schema as always, so what its caller sends is a message as well.
 */
export interface SelfEncoding<T> {
	encode(message: T): Uint8Array;
}

/** The method's own encoder, where it has one. */
export function ownEncoder(method: object): SelfEncoding<unknown>["encode"] | undefined {
	return (method as Partial<SelfEncoding<unknown>>).encode;
}
