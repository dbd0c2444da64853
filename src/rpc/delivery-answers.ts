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
 * Settles one delivery. What is wrong with it concerns no other. `settled` is told once, when it is stored where it has to
 * be, with the failure where there is one.
 */
export function settle(
	session: ReceivingSession,
	{ deliveryId, outcome }: SettlementView,
	settled: (failure?: AnswerFailure) => void,
): void {
	try {
		if (outcome === undefined) throw HubError.field("outcome", "must be set");
		session.settle(deliveryId, outcome, (error) => settled(error === undefined ? undefined : { deliveryId, error }));
	} catch (error) {
		settled(failureOf(deliveryId, error));
	}
}

/**
 * Passes a reply on. One whose content is refused (over 1 MiB, badly structured) fails here, and its requester gets an
 * unsuccessful reply `invalid_reply`.
 */
export function reply(session: ReceivingSession, view: ReplyView): AnswerFailure | undefined {
	try {
		const judged = judge(view);
		if (!(judged instanceof HubError)) {
			session.reply(view.deliveryId, judged);
			return undefined;
		}
		session.refuseReply(view.deliveryId, judged);
		throw judged;
	} catch (error) {
		return failureOf(view.deliveryId, error);
	}
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
function failureOf(deliveryId: string, error: unknown): AnswerFailure {
	if (!(error instanceof HubError) || error.reason === "MALFORMED_REQUEST") throw error;
	return { deliveryId, error };
}
