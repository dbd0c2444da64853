/** What became of an accepted message at once: assigned to a session that can take it, or waiting in the mailbox. */
export type MessageDisposition = "delivered" | "queued";

/** A message that was taken. */
export interface AcceptedMessage {
	readonly id: string;
	readonly disposition: MessageDisposition;
	/** The id was sent before, and the rest is of the first time. */
	readonly duplicate: boolean;
}

/** Told once what became of a message that was taken, which may be at once: it is accepted, or (undefined) why it is not. Must not throw. */
export type AcceptanceListener = (accepted: AcceptedMessage | undefined, error?: unknown) => void;

/** The same as a promise, which rejects with what `take` throws, too. */
export function asPromise(take: (told: AcceptanceListener) => void): Promise<AcceptedMessage> {
	return new Promise((resolve, reject) => {
		take((accepted, error) => (accepted === undefined ? reject(error) : resolve(accepted)));
	});
}
