import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { type DurableSubscription, DurableSubscriptionSchema } from "#gen/qirvo/hub/v1/durable_subscriptions_pb.js";
import type { AnswerCodec } from "../../idempotency/first-answers.ts";

/** How the first answer to a change is kept; that to a deletion is an empty subscription. */
export const DURABLE_ANSWERS: AnswerCodec<DurableSubscription> = {
	encode: (answer) => toBinary(DurableSubscriptionSchema, answer),
	decode: (bytes) => fromBinary(DurableSubscriptionSchema, bytes),
};
