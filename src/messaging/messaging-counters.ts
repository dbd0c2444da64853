/** What became of messages since the hub started. For metrics; nothing decides by it. */
export class MessagingCounters {
	/** Accepted one-way messages. */
	sent = 0;
	/** Accepted requests. */
	requested = 0;
	/** Handed to a session; a redelivery counts again. */
	delivered = 0;
	/** Handed to a session again. */
	redelivered = 0;
	/** Durable messages whose acknowledgement is stored. */
	acknowledged = 0;
	/** Requests answered by their handler, successfully or not. */
	answered = 0;
	/** Settlements and replies for deliveries that were no longer there. */
	late = 0;
	/** Repeats of a message id. */
	duplicates = 0;
	/** Refused because the recipient's mailbox was full. */
	refusedFull = 0;
	/** Not delivered in their time. */
	expired = 0;
	/** Given up by their sender, or out of its deadline. */
	withdrawn = 0;
	/** One-way messages that were lost because nobody was attached any more, or the session that had them ended. */
	lost = 0;
	/** One-way messages that their recipient terminated, or did not acknowledge in all their attempts. */
	rejected = 0;
	/** Publications, however many recipients they had. */
	published = 0;
	/** Broadcasts, however many recipients they had. */
	broadcast = 0;
	/** Recipients that a publication or broadcast was meant for and did not reach. */
	skipped = 0;
	/** Recipients of a publication or broadcast that routes led to a plugin which got the message already. */
	merged = 0;
	/** Copies that a mirror route made. */
	mirrored = 0;
	/** Copies that a mirror route asked for, and that found no place. */
	mirrorLost = 0;
}
