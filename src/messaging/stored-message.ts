import type { QueuedMessage, StoredPlace } from "./queued-message.ts";

/** A durable message has its place; it always does where this is called for. */
export type StoredMessage = QueuedMessage & { readonly stored: StoredPlace };

export function isStored(message: QueuedMessage): message is StoredMessage {
	return message.stored !== undefined;
}
