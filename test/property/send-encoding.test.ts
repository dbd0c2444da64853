import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
	AddressSchema,
	type MessageSchema,
	Priority,
	type SendEntrySchema,
	SendStreamRequestSchema,
	SendStreamResponseSchema,
} from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { toDuration, toTimestamp } from "../../src/client/durations.ts";
import { toPayload } from "../../src/client/payload.ts";
import { leanSendStream } from "../../src/client/send-wire.ts";

// Short ones, ones about the lengths where the encoder changes its way, and text that takes one to four bytes a character.
const text = fc.oneof(
	fc.string({ maxLength: 60 }),
	fc.string({ unit: "grapheme", maxLength: 100 }),
	fc
		.tuple(fc.constantFrom("x", "ä", "字", "🜚"), fc.constantFrom(39, 40, 41, 127, 128, 4_096, 4_097, 16_383))
		.map(([character, length]) => character.repeat(length)),
);
const optional = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined });
const duration = fc.oneof(fc.nat(3_600_000), fc.double({ min: 0, max: 1e9, noNaN: true })).map(toDuration);
const timestamp = fc.oneof(fc.integer({ min: -8.64e15, max: 8.64e15 }), fc.nat(2_000)).map(toTimestamp);
const id = fc.oneof(fc.bigInt(0n, 300n), fc.bigInt(0n, 2n ** 53n - 1n));

const address = fc
	.tuple(fc.constantFrom("pluginId" as const, "capability" as const, "alias" as const), text)
	.map(([kind, value]) => create(AddressSchema, { target: { case: kind, value } }));
const message: fc.Arbitrary<MessageInitShape<typeof MessageSchema>> = fc.record({
	id: text,
	type: text,
	time: optional(timestamp),
	priority: optional(fc.constantFrom(Priority.LOW, Priority.NORMAL, Priority.HIGH)),
	idempotent: fc.boolean(),
	orderingKey: text,
	ttl: optional(duration),
	deliverAt: optional(timestamp),
	attributes: fc.dictionary(text, text, { maxKeys: 4 }),
	payload: fc
		.tuple(
			fc.oneof(fc.constant(undefined), fc.jsonValue(), text, fc.uint8Array({ maxLength: 300 })),
			fc.record({ contentType: optional(text), schema: optional(text) }),
		)
		.map(([data, options]) => toPayload(data, options)),
});
const entry: fc.Arbitrary<MessageInitShape<typeof SendEntrySchema>> = fc.record({
	entryId: id,
	to: optional(address),
	message: optional(message),
	durability: optional(fc.constantFrom(1, 2)),
	requestTimeout: optional(duration),
});

describe("a frame of messages that the client encodes", () => {
	it("has the bytes that protobuf gives it", () => {
		fc.assert(
			fc.property(fc.array(entry, { maxLength: 12 }), (entries) => {
				const request = create(SendStreamRequestSchema, { frame: { case: "batch", value: { entries } } });
				const expected = toBinary(SendStreamRequestSchema, request);
				expect(Buffer.compare(leanSendStream.encode(request), expected)).toBe(0);
			}),
			{ numRuns: 500 },
		);
	});

	it("stays as it is while the next ones are made", () => {
		const frame = (fill: string) =>
			create(SendStreamRequestSchema, {
				frame: { case: "batch", value: { entries: [{ entryId: 1n, message: { type: fill.repeat(30_000) } }] } },
			});
		const first = leanSendStream.encode(frame("a"));
		for (const fill of "bcdefgh") leanSendStream.encode(frame(fill));
		expect(fromBinary(SendStreamRequestSchema, first)).toEqual(frame("a"));
	});

	it("is a cancellation by the schema", () => {
		const request = create(SendStreamRequestSchema, { frame: { case: "cancel", value: { entryId: 7n } } });
		expect(fromBinary(SendStreamRequestSchema, leanSendStream.encode(request))).toEqual(request);
	});
});

const outcome = fc.oneof(
	fc.record({ id: text, disposition: fc.constantFrom(1, 2), duplicate: fc.boolean() }).map((value) => ({
		case: "accepted" as const,
		value,
	})),
	fc.record({ id: text, source: text }).map((value) => ({ case: "reply" as const, value })),
	fc.record({ message: text }).map((value) => ({ case: "error" as const, value })),
);

describe("a frame of results that the client decodes", () => {
	it("says what protobuf makes of it", () => {
		const results = fc.array(fc.record({ entryId: id, outcome: optional(outcome) }), { maxLength: 12 });
		fc.assert(
			fc.property(results, (drafts) => {
				const frame = create(SendStreamResponseSchema, {
					frame: { case: "results", value: { results: drafts.map(({ outcome, ...rest }) => ({ ...rest, outcome })) } },
				});
				const bytes = toBinary(SendStreamResponseSchema, frame);
				const decoded = leanSendStream.decode(bytes);
				expect(Buffer.compare(toBinary(SendStreamResponseSchema, decoded), bytes)).toBe(0);
			}),
			{ numRuns: 500 },
		);
	});

	it("may be any other frame", () => {
		const ready = create(SendStreamResponseSchema, { frame: { case: "ready", value: { id: "s" } } });
		const heartbeat = create(SendStreamResponseSchema, { frame: { case: "heartbeat", value: {} } });
		for (const frame of [ready, heartbeat]) {
			expect(leanSendStream.decode(toBinary(SendStreamResponseSchema, frame))).toEqual(frame);
		}
	});
});
