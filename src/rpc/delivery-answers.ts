import { HubError } from "../hub-error.ts";
import type { ReceivingSession } from "../messaging/receiving-session.ts";
import { parseReply, type ReplyDraft } from "../messaging/reply-content.ts";
import { checkContent } from "../security/content-rule.ts";
import type { ReplyView, SettlementView } from "./attach-frames.ts";

/** An answer that came to nothing. */
export interface AnswerFailure {
	readonly deliveryId: string;
	readonly error: unknown;
}

/**
 * Settles one delivery. What is wrong with it concerns no other. A promise, which does not reject, where it is known only
 * once it is stored.
 */
export function settle(
	session: ReceivingSession,
	view: SettlementView,
): AnswerFailure | undefined | Promise<AnswerFailure | undefined> {
	const { deliveryId } = view;
	let stored: Promise<void> | undefined;
	const failure = attempt(deliveryId, () => {
		if (view.outcome === undefined) throw HubError.field("outcome", "must be set");
		stored = session.settle(deliveryId, view.outcome);
	});
	return (
		stored?.then(
			() => undefined,
			(error: unknown) => ({ deliveryId, error }),
		) ?? failure
	);
}

/**
 * Passes a reply on. One whose content is refused (over 1 MiB, badly structured) fails here, and its requester gets an
 * unsuccessful reply `invalid_reply`.
 */
export function reply(session: ReceivingSession, view: ReplyView): AnswerFailure | undefined {
	return attempt(view.deliveryId, () => {
		const judged = judge(view);
		if (!(judged instanceof HubError)) {
			session.reply(view.deliveryId, judged);
			return;
		}
		session.refuseReply(view.deliveryId, judged);
		throw judged;
	});
}

function judge({ reply }: ReplyView): ReplyDraft | HubError {
	if (reply === undefined) return HubError.field("reply.reply", "is required");
	try {
		const draft = parseReply(reply, "reply.reply");
		return draft.contents.map(checkContent).find((problem) => problem !== undefined) ?? draft;
	} catch (error) {
		if (error instanceof HubError && error.reason !== "MALFORMED_REQUEST") return error;
		throw error;
	}
}

/** Bytes that are no message break the frame they came in; anything else is an answer's own failure. */
function attempt(deliveryId: string, answer: () => void): AnswerFailure | undefined {
	try {
		answer();
		return undefined;
	} catch (error) {
		if (!(error instanceof HubError) || error.reason === "MALFORMED_REQUEST") throw error;
		return { deliveryId, error };
	}
}
