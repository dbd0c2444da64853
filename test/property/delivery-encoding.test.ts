import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
	AttachRequestSchema,
	AttachResponseSchema,
	type DeliverySchema,
	type DeliverySettlementSchema,
	MessageKind,
	Priority,
} from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { toDuration, toTimestamp } from "../../src/client/durations.ts";
import { toPayload } from "../../src/client/payload.ts";
import { leanAttach } from "../../src/client/receive-wire.ts";

const text = fc.oneof(
	fc.string({ maxLength: 60 }),
	fc
		.tuple(fc.constantFrom("x", "ä", "字", "🜚"), fc.constantFrom(39, 40, 41, 127, 128, 4_096, 4_097))
		.map(([character, length]) => character.repeat(length)),
);
const optional = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined });
/** Seldom there, so that both ways are gone. */
const rare = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined, freq: 12 });
const timestamp = fc.integer({ min: -8.64e15, max: 8.64e15 }).map(toTimestamp);
const duration = fc.nat(3_600_000).map(toDuration);
const payload = fc
	.tuple(
		fc.oneof(fc.constant(undefined), fc.jsonValue(), text, fc.uint8Array({ maxLength: 300 })),
		fc.record({ contentType: optional(text), schema: optional(text) }),
	)
	.map(([data, options]) => toPayload(data, options));

const delivery: fc.Arbitrary<MessageInitShape<typeof DeliverySchema>> = fc.record({
	deliveryId: text,
	timeLeft: optional(duration),
	message: optional(
		fc.record({
			id: text,
			type: text,
			time: optional(timestamp),
			priority: optional(fc.constantFrom(Priority.LOW, Priority.NORMAL, Priority.HIGH)),
			idempotent: fc.boolean(),
			orderingKey: text,
			ttl: rare(duration),
			attributes: rare(fc.dictionary(text, text, { maxKeys: 3 })),
			payload,
			source: text,
			recipient: text,
			hubTime: optional(timestamp),
			requiresResponse: fc.boolean(),
			attempt: fc.nat(300),
			kind: rare(fc.constant(MessageKind.PUBLICATION)),
			topic: rare(text),
		}),
	),
});

const settlement: fc.Arbitrary<MessageInitShape<typeof DeliverySettlementSchema>> = fc.record({
	deliveryId: text,
	outcome: fc.oneof(
		{ weight: 9, arbitrary: fc.constant({ case: "acknowledge" as const, value: true }) },
		{ weight: 1, arbitrary: fc.constant({ case: "negative" as const, value: {} }) },
	),
});
const reply = fc.record({
	success: fc.boolean(),
	data: payload,
	error: rare(fc.record({ type: text, message: text })),
	attributes: rare(fc.dictionary(text, text, { maxKeys: 2 })),
});

describe("what a client says of deliveries", () => {
	it("has the bytes that protobuf gives it", () => {
		const frame = fc.oneof(
			fc.array(settlement, { maxLength: 20 }).map((deliveries) => ({
				case: "settlement" as const,
				value: { deliveries },
			})),
			fc.record({ deliveryId: text, reply: optional(reply) }).map((value) => ({ case: "reply" as const, value })),
			fc.record({ instanceId: text, maxInFlight: fc.nat(100) }).map((value) => ({ case: "open" as const, value })),
		);
		fc.assert(
			fc.property(frame, (draft) => {
				const request = create(AttachRequestSchema, { frame: draft } as MessageInitShape<typeof AttachRequestSchema>);
				expect(Buffer.compare(leanAttach.encode(request), toBinary(AttachRequestSchema, request))).toBe(0);
			}),
			{ numRuns: 500 },
		);
	});
});

describe("deliveries that a client decodes", () => {
	it("are what protobuf makes of them", () => {
		fc.assert(
			fc.property(fc.array(delivery, { maxLength: 8 }), (deliveries) => {
				const frame = create(AttachResponseSchema, { frame: { case: "batch", value: { deliveries } } });
				const bytes = toBinary(AttachResponseSchema, frame);
				const decoded = leanAttach.decode(bytes);
				expect(Buffer.compare(toBinary(AttachResponseSchema, decoded), bytes)).toBe(0);
				if (decoded.frame.case !== "batch") throw new Error("another frame");
				for (const [index, { deliveryId, message }] of decoded.frame.value.deliveries.entries()) {
					expect(deliveryId).toBe(deliveries[index]!.deliveryId);
					expect(message?.attributes).toEqual(message && (deliveries[index]!.message?.attributes ?? {}));
				}
			}),
			{ numRuns: 500 },
		);
	});

	it("have the hub's fields, which stand behind the sender's", () => {
		const sent = { id: "a", type: "t", source: "alice" };
		const stamped = { source: "bob", recipient: "carol", attempt: 2 };
		const [first, second] = [sent, stamped].map((message) => {
			const frame = { case: "batch" as const, value: { deliveries: [{ message }] } };
			return toBinary(AttachResponseSchema, create(AttachResponseSchema, { frame })).subarray(6);
		});
		const message = Buffer.concat([first!, second!]);
		const bytes = Buffer.concat([
			Buffer.from([0x12, message.length + 4, 0x0a, message.length + 2, 0x12, message.length]),
			message,
		]);
		const { frame } = leanAttach.decode(bytes);
		if (frame.case !== "batch") throw new Error("another frame");
		expect(frame.value.deliveries[0]!.message).toMatchObject({ ...sent, ...stamped });
	});

	it("may be any other frame", () => {
		for (const frame of [
			create(AttachResponseSchema, { frame: { case: "ready", value: { id: "s" } } }),
			create(AttachResponseSchema, { frame: { case: "heartbeat", value: {} } }),
			create(AttachResponseSchema),
		]) {
			expect(leanAttach.decode(toBinary(AttachResponseSchema, frame))).toEqual(frame);
		}
	});
});
