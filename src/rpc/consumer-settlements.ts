import type { ConsumerSession } from "../events/durable/consumer-session.ts";
import { HubError } from "../hub-error.ts";
import type { SettlementView } from "./attach-frames.ts";
import type { AnswerFailure } from "./delivery-answers.ts";

/** What became of settlements: those that hold once they are stored, and those that came to nothing. */
export interface SettledViews {
	readonly final: string[];
	readonly failures: AnswerFailure[];
}

/** Settles deliveries one by one. What is wrong with one concerns no other. */
export function settleAll(session: ConsumerSession, views: readonly SettlementView[]): SettledViews {
	const settled: SettledViews = { final: [], failures: [] };
	for (const { deliveryId, outcome } of views) {
		try {
			if (outcome === undefined) throw HubError.field("outcome", "must be set");
			if (outcome.kind === "negative") {
				session.settle(deliveryId, { kind: "negative", delayMs: outcome.delayMs || undefined });
			} else {
				session.settle(deliveryId, outcome);
				if (outcome.kind !== "in-progress") settled.final.push(deliveryId);
			}
		} catch (error) {
			if (!(error instanceof HubError)) throw error;
			settled.failures.push({ deliveryId, error });
		}
	}
	return settled;
}
