import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
	AddressSchema,
	Durability,
	MessageSchema,
	Priority,
	type SendStreamRequest,
	SendStreamRequestSchema,
	type SendStreamResponse,
	SendStreamResponseSchema,
} from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { toDuration, toTimestamp } from "../../src/client/durations.ts";
import { toPayload } from "../../src/client/payload.ts";
import { settleSends, type WireSendResults } from "../../src/client/send-results.ts";
import { encodeSend, leanSendStream, SendBatch, setDurability, withTimeout } from "../../src/client/send-wire.ts";
import { WireRange } from "../../src/client/wire-range.ts";

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
/** One-way and durable or not, or a request with milliseconds to wait. */
const fate = fc.oneof(
	fc.record({ durable: fc.boolean(), timeoutMs: fc.constant(undefined) }),
	fc.record({ durable: fc.constant(undefined), timeoutMs: fc.integer({ min: 1, max: 3_600_000 }) }),
);
const entry = fc.record({ entryId: id.map(Number).map((number) => number + 1), to: address, message, fate });

type Entry = typeof entry extends fc.Arbitrary<infer E> ? E : never;

function encode(entries: readonly Entry[]): SendBatch {
	return new SendBatch(
		entries.map(({ entryId, to, message, fate: { durable, timeoutMs } }) => {
			const range = encodeSend(entryId, to, create(MessageSchema, message), timeoutMs !== undefined);
			if (timeoutMs !== undefined) return withTimeout(range, timeoutMs);
			setDurability(range, durable);
			return range;
		}),
	);
}

function request(entries: readonly Entry[]): SendStreamRequest {
	const messages = entries.map(({ entryId, to, message, fate: { durable, timeoutMs } }) => ({
		entryId: BigInt(entryId),
		to,
		message,
		...(durable === undefined ? {} : { durability: durable ? Durability.DURABLE : Durability.TRANSIENT }),
		...(timeoutMs === undefined ? {} : { requestTimeout: toDuration(timeoutMs) }),
	}));
	return create(SendStreamRequestSchema, { frame: { case: "batch", value: { entries: messages } } });
}

describe("a frame of messages that the client encodes", () => {
	it("has the bytes that protobuf gives it, and is a message to who wants one", () => {
		fc.assert(
			fc.property(fc.array(entry, { maxLength: 12 }), (entries) => {
				const batch = encode(entries);
				const expected = toBinary(SendStreamRequestSchema, request(entries));
				expect(Buffer.compare(leanSendStream.encode(batch), expected)).toBe(0);
				expect(Buffer.compare(toBinary(SendStreamRequestSchema, batch), expected)).toBe(0);
			}),
			{ numRuns: 500 },
		);
	});

	it("stays as it is while the next ones are made", () => {
		const frame = (fill: string) =>
			encode([
				{
					entryId: 1,
					to: create(AddressSchema),
					message: { type: fill.repeat(30_000) },
					fate: { durable: true, timeoutMs: undefined },
				},
			]);
		const first = frame("a");
		const bytes = leanSendStream.encode(first);
		for (const fill of "bcdefgh") leanSendStream.encode(frame(fill));
		expect(Buffer.compare(leanSendStream.encode(first), bytes)).toBe(0);
	});

	it("does not keep a large message for the sake of a small one behind it", () => {
		const encoded = (bytes: number) => {
			const payload = toPayload(new Uint8Array(bytes));
			return encodeSend(1, create(AddressSchema), create(MessageSchema, { payload }), true);
		};
		expect(encoded(1_000_000).chunk.byteLength).toBeGreaterThan(1_000_000);
		expect(encoded(10).chunk.byteLength).toBeLessThan(200_000);
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

/** What the entries of a frame are told, in its order. */
function told(frame: SendStreamResponse | WireSendResults): unknown[] {
	const calls: unknown[] = [];
	settleSends(frame, (entryId) => {
		const note = (kind: string) => (value: unknown) => void calls.push([entryId, kind, value]);
		return {
			entryId,
			range: new WireRange(new Uint8Array(), 0, 0),
			idempotent: false,
			request: undefined,
			durable: true,
			sentAt: undefined,
			settled: false,
			accepted: ({ id, disposition, duplicate }) => note("accepted")({ id, disposition, duplicate }),
			answered: note("answered"),
			reject: (error) => note("reject")(String(error)),
		};
	});
	return calls;
}

describe("a frame of results that the client decodes", () => {
	it("says what protobuf makes of it", () => {
		const results = fc.array(fc.record({ entryId: id, outcome: optional(outcome) }), { maxLength: 12 });
		fc.assert(
			fc.property(results, (drafts) => {
				const frame = create(SendStreamResponseSchema, {
					frame: { case: "results", value: { results: drafts.map(({ outcome, ...rest }) => ({ ...rest, outcome })) } },
				});
				const bytes = toBinary(SendStreamResponseSchema, frame);
				expect(told(leanSendStream.decode(bytes))).toEqual(told(fromBinary(SendStreamResponseSchema, bytes)));
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
