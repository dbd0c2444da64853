import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { EmitStreamRequestSchema, type Event, EventSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { toTimestamp } from "../../src/client/durations.ts";
import { EncodedBatch, encodedEmitStream } from "../../src/client/encoded-batch.ts";
import { EventEncoder } from "../../src/client/event-encoder.ts";
import { toPayload } from "../../src/client/payload.ts";

interface Draft {
	readonly id: string;
	readonly type: string;
	readonly time: number | undefined;
	readonly data: unknown;
	readonly fields: {
		readonly subject?: string;
		readonly attributes?: Record<string, string>;
		readonly orderingKey?: string;
		readonly contentType?: string;
		readonly schema?: string;
	};
}

// Short ones, ones about the lengths where the encoder changes its way, and text that takes one to four bytes a character.
const text = fc.oneof(
	fc.string({ maxLength: 60 }),
	fc.string({ unit: "binary", maxLength: 60 }),
	fc.string({ unit: "grapheme", maxLength: 200 }),
	fc
		.tuple(
			fc.constantFrom("x", "ä", "字", "🜚"),
			fc.constantFrom(39, 40, 41, 42, 43, 63, 127, 128, 2_048, 4_096, 4_097, 16_383),
		)
		.map(([character, length]) => character.repeat(length)),
);
const optional = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined });
const draft: fc.Arbitrary<Draft> = fc.record({
	id: text,
	type: text,
	time: optional(fc.oneof(fc.integer({ min: -8.64e15, max: 8.64e15 }), fc.nat(2_000), fc.constant(1_900_000_000_123))),
	data: fc.oneof(fc.constant(undefined), fc.jsonValue(), text, fc.uint8Array({ maxLength: 300 })),
	fields: fc.record({
		subject: optional(text),
		attributes: optional(fc.dictionary(text, text, { maxKeys: 4 })),
		orderingKey: optional(text),
		contentType: optional(text),
		schema: optional(text),
	}),
});

function toEvent({ id, type, time, data, fields }: Draft): Event {
	const { subject, attributes, orderingKey } = fields;
	const payload = toPayload(data, fields);
	return create(EventSchema, {
		id,
		type,
		subject,
		attributes,
		orderingKey,
		payload,
		time: time === undefined ? undefined : toTimestamp(time),
	});
}

describe("an event that the client encodes", () => {
	it("has the bytes that protobuf gives it", () => {
		fc.assert(
			fc.property(fc.bigInt(0n, 2n ** 64n - 1n), fc.array(draft, { maxLength: 20 }), (batchId, drafts) => {
				const encoder = new EventEncoder();
				const encoded = drafts.map(({ id, type, time, data, fields }) => encoder.encode(id, type, time, data, fields));
				const events = drafts.map(toEvent);
				const expected = toBinary(EmitStreamRequestSchema, create(EmitStreamRequestSchema, { batchId, events }));
				const batch = new EncodedBatch(batchId, encoded);
				expect(Buffer.compare(encodedEmitStream.encode(batch), expected)).toBe(0);
				// To a transport that encodes by the schema it is a message like any other.
				expect(
					Buffer.compare(toBinary(EmitStreamRequestSchema, create(EmitStreamRequestSchema, batch)), expected),
				).toBe(0);
				expect(batch.events).toEqual(fromBinary(EmitStreamRequestSchema, expected).events);
			}),
			{ numRuns: 500 },
		);
	});

	it("may be left out of its batch, and be sent again in another", () => {
		const encoder = new EventEncoder();
		const events = Array.from({ length: 2_000 }, (_, index) =>
			encoder.encode(`${index}`, "t", undefined, { index }, undefined),
		);
		const odd = events.filter((_, index) => index % 2 === 1);
		const ids = (some: typeof events) =>
			fromBinary(EmitStreamRequestSchema, new EncodedBatch(1n, some).toBytes()).events.map(({ id }) => Number(id));
		expect(ids(odd)).toEqual(odd.map((_, index) => index * 2 + 1));
		expect(ids(events)).toEqual(events.map((_, index) => index));
	});

	it("is refused where it cannot be said, and leaves the next one whole", () => {
		const encoder = new EventEncoder();
		expect(() => encoder.encode("a", "t", undefined, () => {}, undefined)).toThrow(TypeError);
		expect(() => encoder.encode("a", "t", Number.NaN, {}, undefined)).toThrow(RangeError);
		const { id, type, time } = encoder.encode("b", "t", undefined, {}, undefined).toMessage();
		expect([id, type, time]).toEqual(["b", "t", undefined]);
	});
});
