import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { EmitRequestSchema, type Event, EventSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { EventBlock } from "../../src/events/event-block.ts";
import { type EventContent, EventIntake, type IntakeRecord } from "../../src/events/event-intake.ts";
import { HubError } from "../../src/hub-error.ts";
import type { Subject } from "../../src/subjects/subject.ts";
import { SequentialIds } from "../harness/fake-clock.ts";

const PUBLISHER = "weather";
const STORED_AT = Date.UTC(2030, 0, 1) + 123;

/** What the policy was shown of the last event. */
let shown: { type: string; bytes: number; json: string | undefined; contentType: string } | undefined;

const policy = {
	check(subject: Subject, content: EventContent) {
		const { json, bytes, contentType } = content;
		shown = { type: subject.spelling, bytes, contentType, json: json && Buffer.from(json).toString() };
	},
	spoofed() {},
};

/** A varint, padded with `padding` bytes that add nothing. */
function varint(value: bigint, padding = 0): number[] {
	const bytes: number[] = [];
	let rest = value;
	do {
		bytes.push(Number(rest & 0x7fn) | 0x80);
		rest >>= 7n;
	} while (rest > 0n);
	for (let index = 0; index < padding; index++) bytes.push(0x80);
	bytes[bytes.length - 1]! &= 0x7f;
	return bytes;
}

interface Piece {
	readonly field: number;
	readonly wire: number;
	readonly bytes: readonly number[];
	readonly tagPadding: number;
	readonly lengthPadding: number;
}

function encode(pieces: readonly Piece[]): number[] {
	return pieces.flatMap(({ field, wire, bytes, tagPadding, lengthPadding }) => [
		...varint(BigInt((field << 3) | wire), tagPadding),
		...(wire === 2 ? varint(BigInt(bytes.length), lengthPadding) : []),
		...bytes,
	]);
}

const padding = fc.oneof({ arbitrary: fc.constant(0), weight: 12 }, fc.integer({ min: 1, max: 2 }));

function piece(field: fc.Arbitrary<number>, bytes: fc.Arbitrary<readonly number[]>): fc.Arbitrary<Piece> {
	return fc.record({ field, wire: fc.constant(2), bytes, tagPadding: padding, lengthPadding: padding });
}

const text = (options: { maxLength: number }) =>
	fc.oneof(
		fc.string({ unit: "grapheme", ...options }),
		fc.constantFrom("a.b", "weather", "other", "hub-x", "traceparent", "__proto__", ""),
	);
const textBytes = (maxLength: number) => text({ maxLength }).map((value) => [...Buffer.from(value)]);
const anyBytes = fc.array(fc.integer({ min: 0, max: 255 }), { maxLength: 12 });
const number = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map((value) => varint(value));

const varintPiece = (field: fc.Arbitrary<number>): fc.Arbitrary<Piece> =>
	fc.record({ field, wire: fc.constant(0), bytes: number, tagPadding: padding, lengthPadding: fc.constant(0) });

const unknown: fc.Arbitrary<Piece> = fc.oneof(
	piece(fc.integer({ min: 1, max: 40 }), anyBytes),
	varintPiece(fc.integer({ min: 1, max: 40 })),
);
const nested = (pieces: fc.Arbitrary<Piece>) => fc.array(pieces, { maxLength: 4 }).map(encode);

const payload = nested(
	fc.oneof(
		{ arbitrary: piece(fc.constantFrom(1, 2, 3, 4), textBytes(20)), weight: 8 },
		{ arbitrary: piece(fc.constantFrom(2), anyBytes), weight: 2 },
		unknown,
	),
);
const attribute = nested(fc.oneof({ arbitrary: piece(fc.constantFrom(1, 2), textBytes(10)), weight: 8 }, unknown));
const seconds = fc.integer({ min: 0, max: 2 ** 31 }).map((value) => varint(BigInt(value)));
const timestamp = nested(
	fc.oneof(
		{
			arbitrary: fc.record({
				field: fc.constantFrom(1, 2),
				wire: fc.constant(0),
				bytes: fc.oneof({ arbitrary: seconds, weight: 6 }, number),
				tagPadding: padding,
				lengthPadding: fc.constant(0),
			}),
			weight: 8,
		},
		unknown,
	),
);

const field: fc.Arbitrary<Piece> = fc.oneof(
	{
		arbitrary: piece(
			fc.constant(2),
			fc.constantFrom("a.b", "a:b", "x").map((value) => [...Buffer.from(value)]),
		),
		weight: 6,
	},
	{ arbitrary: piece(fc.constantFrom(1, 3, 6), textBytes(16)), weight: 6 },
	{
		arbitrary: piece(
			fc.constant(16),
			fc.constantFrom(PUBLISHER, "").map((value) => [...Buffer.from(value)]),
		),
		weight: 3,
	},
	{ arbitrary: piece(fc.constant(4), timestamp), weight: 3 },
	{ arbitrary: piece(fc.constant(5), attribute), weight: 4 },
	{ arbitrary: piece(fc.constant(7), payload), weight: 5 },
	// One payload over several fields, which decoders merge.
	{
		arbitrary: piece(fc.constant(7), fc.constantFrom([0x0a, 0x01, 0x31], [0x12, 0x02, 0x00, 0xff], [0x1a, 0x01, 0x78])),
		weight: 5,
	},
	{ arbitrary: piece(fc.constantFrom(17, 18, 19, 16), anyBytes), weight: 1 },
	{ arbitrary: varintPiece(fc.constantFrom(17, 18, 19)), weight: 1 },
	{ arbitrary: unknown, weight: 2 },
);

function publish(bytes: Uint8Array): IntakeRecord | HubError {
	shown = undefined;
	const request = Uint8Array.of(0x0a, ...varint(BigInt(bytes.byteLength)), ...bytes);
	try {
		return new EventIntake(PUBLISHER, new SequentialIds("made-")).readOne(request, policy);
	} catch (error) {
		if (error instanceof HubError) return error;
		throw error;
	}
}

/** What a subscriber decodes. */
function delivered(record: IntakeRecord, replay: boolean): Event {
	const block = new EventBlock([{ ...record, sequence: 300, time: STORED_AT }], replay ? 301 : 0);
	const entry = block.entries(0, 1);
	expect(entry[0]).toBe(0x0a);
	let at = 1;
	while (entry[at]! >= 0x80) at++;
	return fromBinary(EventSchema, Uint8Array.from(entry.subarray(at + 1)));
}

/** The event that the publisher's bytes mean, with what the hub stamps. */
function expected(bytes: Uint8Array, replay: boolean): Event {
	const event = fromBinary(EventSchema, bytes, { readUnknownFields: false });
	event.id ||= "made-1";
	event.source = PUBLISHER;
	event.hubTime = { $typeName: "google.protobuf.Timestamp", seconds: 1893456000n, nanos: 123_000_000 };
	event.sequence = 300n;
	event.isReplay = replay;
	return event;
}

function check(bytes: Uint8Array, replay: boolean): "stored" | "refused" {
	const record = publish(bytes);
	if (record instanceof HubError) return "refused";
	const event = delivered(record, replay);
	expect(event.$unknown).toBeUndefined();
	expect(event).toEqual(expected(bytes, replay));
	expect(record.topic).toBe(event.type.replaceAll(":", "."));
	expect(record.eventId).toBe(event.id);
	const { body, contentType } = event.payload ?? create(EmitRequestSchema, { event: { payload: {} } }).event!.payload!;
	const size = body.case === "json" ? Buffer.byteLength(body.value) : (body.value?.byteLength ?? 0);
	expect(shown?.type).toBe(event.type);
	expect(shown?.json).toBe(body.case === "json" ? body.value : undefined);
	const usual = body.case === "binary" ? "application/octet-stream" : "application/json";
	expect(shown?.contentType).toBe(contentType || usual);
	let attributes = 0;
	for (const [key, value] of Object.entries(event.attributes)) attributes += Buffer.byteLength(key + value);
	// A key that is sent twice counts twice.
	expect(shown!.bytes).toBeGreaterThanOrEqual(size + attributes);
	return "stored";
}

test("subscribers decode what the guard was shown, whatever the encoding", () => {
	const outcomes = { stored: 0, refused: 0 };
	fc.assert(
		fc.property(fc.array(field, { maxLength: 9 }), fc.boolean(), (pieces, replay) => {
			outcomes[check(Uint8Array.from(encode(pieces)), replay)]++;
		}),
		{ numRuns: 4000 },
	);
	// Both kinds were seen, so the property is not empty.
	expect(outcomes.stored).toBeGreaterThan(200);
	expect(outcomes.refused).toBeGreaterThan(200);
});

test("damaged encodings are refused or mean what they are delivered as", () => {
	const mutation = fc.record({ at: fc.nat(), byte: fc.integer({ min: 0, max: 255 }), cut: fc.boolean() });
	fc.assert(
		fc.property(fc.array(field, { minLength: 1, maxLength: 6 }), mutation, (pieces, { at, byte, cut }) => {
			const whole = Uint8Array.from(encode(pieces));
			if (whole.byteLength === 0) return;
			const bytes = cut ? whole.slice(0, at % whole.byteLength) : whole;
			if (!cut) bytes[at % whole.byteLength] = byte;
			check(bytes, false);
		}),
		{ numRuns: 4000 },
	);
});

test("an ordinary event is stored with the publisher's own bytes", () => {
	fc.assert(
		fc.property(
			fc.record({
				id: fc.stringMatching(/^[a-z]{1,20}$/),
				subject: fc.string({ maxLength: 100 }),
				orderingKey: fc.string({ maxLength: 60 }),
				attributes: fc.dictionary(fc.stringMatching(/^[a-z]{1,20}$/), fc.string({ maxLength: 100 }), { maxKeys: 5 }),
				json: fc.jsonValue().map((value) => JSON.stringify(value)),
				nanos: fc.integer({ min: 0, max: 999_999_999 }),
				seconds: fc.bigInt({ min: -62_135_596_800n, max: 253_402_300_799n }),
			}),
			({ json, seconds, nanos, ...fields }) => {
				const event = create(EventSchema, {
					...fields,
					type: "a.b",
					time: { seconds, nanos },
					payload: { body: { case: "json", value: json } },
				});
				const bytes = toBinary(EventSchema, event);
				const record = publish(bytes);
				if (record instanceof HubError) throw record;
				expect(Buffer.compare(record.bytes.subarray(0, bytes.byteLength), bytes)).toBe(0);
				check(bytes, true);
			},
		),
		{ numRuns: 500 },
	);
});
