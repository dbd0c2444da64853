import { ConsumeResponseSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import type { ConsumerOutput, EventDeliveryFields } from "../events/durable/consumer-session.ts";
import { HubError } from "../hub-error.ts";
import { varintSize } from "../wire/varint.ts";
import { WireReader } from "../wire/wire-reader.ts";
import { WireWriter } from "../wire/wire-writer.ts";
import { openingCredit, readCredit, readSettlement, type SettlementView } from "./attach-frames.ts";
import { Encoded } from "./call.ts";
import type { AnswerFailure } from "./delivery-answers.ts";
import { entryErrorOf } from "./entry-error.ts";
import { encodeFrame } from "./messaging-frames.ts";
import { readyFrame, streamFrames } from "./stream-frames.ts";

/** A frame of `Consume`. */
export type ConsumeFrame =
	| { readonly kind: "open"; readonly name: string; readonly maxInFlight: number }
	| { readonly kind: "settlement"; readonly settlements: readonly SettlementView[] }
	| { readonly kind: "credit"; readonly maxInFlight: number };

/** Refuses what is no frame. Of a oneof given twice the last counts. */
export function readConsumeFrame(bytes: Uint8Array): ConsumeFrame {
	const reader = new WireReader(bytes);
	let frame: ConsumeFrame | undefined;
	for (let number = reader.next(); number !== 0; number = reader.next()) {
		if (number === 1) frame = readOpen(reader.nested());
		else if (number === 2) frame = { kind: "settlement", settlements: readSettlement(reader.nested()) };
		else if (number === 3) frame = { kind: "credit", maxInFlight: readCredit(reader.nested(), "credit") };
		else reader.skip();
	}
	if (frame === undefined) throw HubError.field("frame", "must be set");
	return frame;
}

function readOpen(reader: WireReader): ConsumeFrame {
	let name = "";
	let maxInFlight = 0;
	for (let number = reader.next(); number !== 0; number = reader.next()) {
		if (number === 1) name = reader.string();
		else if (number === 2) maxInFlight = reader.number();
		else reader.skip();
	}
	return { kind: "open", name, maxInFlight: openingCredit(maxInFlight, "open.") };
}

/** Frames of `Consume`, and of `ReceiveEvents`, whose frames have the same fields. */
export const CONSUME_FRAMES = streamFrames((frame) => encodeFrame(ConsumeResponseSchema, { frame }));

/** The first frame of a session. */
export function consumeReady(id: string): Encoded {
	return encodeFrame(ConsumeResponseSchema, { frame: readyFrame(id) });
}

/** What a session has to tell. `epoch` is the log's. */
export function consumeOutput(output: ConsumerOutput, epoch: string): Encoded {
	switch (output.kind) {
		case "deliveries":
			return new Encoded([encodeDeliveries(output.deliveries)]);
		case "lost": {
			const upTo = { epoch, sequence: BigInt(output.upTo) };
			return encodeFrame(ConsumeResponseSchema, {
				frame: { case: "lost", value: { lost: BigInt(output.lost), upTo } },
			});
		}
		case "caught-up":
			return encodeFrame(ConsumeResponseSchema, { frame: { case: "caughtUp", value: {} } });
	}
}

export function consumeSettled(deliveryIds: string[]): Encoded {
	return encodeFrame(ConsumeResponseSchema, { frame: { case: "settled", value: { deliveryIds } } });
}

export function consumeFailures(answers: readonly AnswerFailure[], requestId: string): Encoded {
	const failures = answers.map(({ deliveryId, error }) => ({ deliveryId, error: entryErrorOf(error, requestId) }));
	return encodeFrame(ConsumeResponseSchema, { frame: { case: "failures", value: { failures } } });
}

/** `ConsumeResponse.batch`, with the events spliced in as the log's readers encoded them. */
function encodeDeliveries(deliveries: readonly EventDeliveryFields[]): Uint8Array {
	let total = 0;
	const sizes = deliveries.map(({ deliveryId, entry, attempt }) => {
		// Delivery ids are digits: a byte each, fewer than 128.
		const size = entry.byteLength + 2 + deliveryId.length + 1 + varintSize(attempt);
		total += 1 + varintSize(size) + size;
		return size;
	});
	const writer = new WireWriter(total + 16);
	writer.header(2, total);
	for (const [index, { deliveryId, entry, attempt }] of deliveries.entries()) {
		writer.header(1, sizes[index]!);
		writer.append(entry);
		writer.string(2, deliveryId);
		writer.varint(3, attempt);
	}
	return writer.finish();
}
