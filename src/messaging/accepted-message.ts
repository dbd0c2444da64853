/** What became of an accepted message at once: assigned to a session that can take it, or waiting in the mailbox. */
export type MessageDisposition = "delivered" | "queued";

/** A message that was taken. */
export interface AcceptedMessage {
	readonly id: string;
	readonly disposition: MessageDisposition;
	/** The id was sent before, and the rest is of the first time. */
	readonly duplicate: boolean;
}
