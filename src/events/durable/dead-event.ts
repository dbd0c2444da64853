import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { DeadEventRecordSchema } from "#gen/qirvo/hub/storage/v1/records_pb.js";
import type { DeadLetter } from "../../dead-letters/dead-letters.ts";

/** What the letters of durable subscriptions come from: this, and the subscription's name. */
const ORIGIN = "subscription/";

/** An event that a durable subscription gave up, as its letter holds it. */
export interface DeadEvent {
	/** The durable subscription's name. */
	readonly subscription: string;
	/** `DurableDefinition.life` of the subscription. */
	readonly life: number;
	readonly epoch: string;
	readonly sequence: number;
	/** A `qirvo.hub.v1.Event` as it was delivered. */
	readonly event: Uint8Array;
}

/** The origin of a durable subscription's letters. */
export function originOf(subscription: string): string {
	return `${ORIGIN}${subscription}`;
}

/** The item of a letter. */
export function encodeDeadEvent({ event, epoch, sequence, life }: Omit<DeadEvent, "subscription">): Uint8Array {
	const record = create(DeadEventRecordSchema, { event, epoch, sequence: BigInt(sequence), life: BigInt(life) });
	return toBinary(DeadEventRecordSchema, record);
}

/** Undefined where the letter does not come from a durable subscription. */
export function deadEventOf({ origin, item }: DeadLetter): DeadEvent | undefined {
	if (!origin.startsWith(ORIGIN)) return undefined;
	const { event, epoch, sequence, life } = fromBinary(DeadEventRecordSchema, item);
	const subscription = origin.slice(ORIGIN.length);
	return { subscription, event, epoch, sequence: Number(sequence), life: Number(life) };
}
