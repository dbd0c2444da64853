import { create, type DescMessage, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { expect, test } from "vitest";
import {
	AttachRequestSchema,
	AttachResponseSchema,
	type Message,
	MessageSchema,
	ReplyContentSchema,
	SendStreamRequestSchema,
} from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { HubError } from "../../src/hub-error.ts";
import { parseMessage } from "../../src/messaging/message-draft.ts";
import { parseReply } from "../../src/messaging/reply-content.ts";
import { encodeDeliveries, stampMessage } from "../../src/messaging/stamped-message.ts";
import { readAttachFrame } from "../../src/rpc/attach-frames.ts";
import { readSendFrame } from "../../src/rpc/send-frames.ts";

const text = (maxLength: number) => fc.string({ unit: "grapheme", maxLength });
const payload = fc.record({
	body: fc.oneof(
		fc.record({ case: fc.constant("json" as const), value: fc.json() }),
		fc.record({
			case: fc.constant("binary" as const),
			value: fc.uint8Array({ maxLength: 300 }) as fc.Arbitrary<Uint8Array<ArrayBuffer>>,
		}),
		fc.constant({ case: undefined }),
	),
	contentType: text(20),
	schema: text(20),
});
const duration = fc.record({ seconds: fc.bigInt(1n, 1000n), nanos: fc.nat(999_999_999) });
const message: fc.Arbitrary<Message> = fc
	.record(
		{
			id: text(8),
			type: fc.constantFrom("a", "a.b", "a:b"),
			time: fc.record({ seconds: fc.bigInt(-62135596800n, 253402300799n), nanos: fc.nat(999_999_999) }),
			priority: fc.constantFrom(1, 2, 3),
			idempotent: fc.boolean(),
			orderingKey: text(8),
			ttl: duration,
			attributes: fc.dictionary(text(10), text(20), { maxKeys: 4 }),
			payload,
			source: fc.constantFrom("", "alice"),
		},
		{ requiredKeys: ["type"] },
	)
	.map((fields) => create(MessageSchema, fields as MessageInitShape<typeof MessageSchema>));

test("a recipient sees what the sender wrote, and the hub's stamp", () => {
	fc.assert(
		fc.property(
			message,
			fc.nat(2 ** 45),
			fc.boolean(),
			fc.integer({ min: 1, max: 300 }),
			(sent, hubTime, asks, attempt) => {
				const draft = parseMessage(toBinary(MessageSchema, sent), "alice", "message", "durable");
				const id = draft.id === "" ? "made" : draft.id;
				const stamped = stampMessage(draft, { id, source: "alice", recipient: "bob", hubTime, requiresResponse: asks });
				// Behind other bytes, as in a block, or alone.
				const bytes = asks ? stamped : Buffer.concat([Buffer.alloc(7, 1), stamped, Buffer.alloc(3, 2)]);
				const start = asks ? 0 : 7;
				const range = { bytes, start, end: start + stamped.byteLength };
				const one = { id: "17", message: range, attempt, timeLeftMs: asks ? 1500.25 : undefined };
				const frame = fromBinary(AttachResponseSchema, new Uint8Array(encodeDeliveries(2, [one, one])));
				expect(frame.frame.case).toBe("batch");
				const { deliveries } = frame.frame.value as {
					deliveries: { deliveryId: string; message: Message; timeLeft?: object }[];
				};
				expect(deliveries).toHaveLength(2);
				for (const { deliveryId, message, timeLeft } of deliveries) {
					expect(deliveryId).toBe("17");
					expect(timeLeft).toEqual(
						asks ? { $typeName: "google.protobuf.Duration", seconds: 1n, nanos: 500_000_000 } : undefined,
					);
					const hub = { source: "alice", recipient: "bob", requiresResponse: asks, attempt };
					const time = timestampFromMs(hubTime);
					expect(message).toEqual(create(MessageSchema, { ...sent, id, ...hub, hubTime: time }));
				}
				const body = sent.payload?.body;
				const bodyBytes = body?.case === "json" ? Buffer.byteLength(body.value) : (body?.value?.byteLength ?? 0);
				const attributeBytes = Object.entries(sent.attributes)
					.flat()
					.map((part) => Buffer.byteLength(part));
				expect(draft.content.bytes).toBe(attributeBytes.reduce((sum, bytes) => sum + bytes, bodyBytes));
			},
		),
		{ numRuns: 300 },
	);
});

/** Valid messages with bytes changed, dropped and added: nearly right is what finds the gaps. */
function damaged(valid: fc.Arbitrary<Uint8Array>): fc.Arbitrary<Uint8Array> {
	const edit = fc.record({ at: fc.nat(400), drop: fc.nat(3), add: fc.uint8Array({ maxLength: 3 }) });
	return fc.tuple(valid, fc.array(edit, { minLength: 1, maxLength: 2 })).map(([bytes, edits]) => {
		let result = Buffer.from(bytes);
		for (const { at, drop, add } of edits) {
			const place = at % (result.length + 1);
			result = Buffer.concat([result.subarray(0, place), add, result.subarray(place + drop)]);
		}
		return result;
	});
}

const reply = fc
	.record({ success: fc.boolean(), data: payload, attributes: fc.dictionary(text(5), text(5), { maxKeys: 2 }) })
	.map((fields) => create(ReplyContentSchema, fields as object));
const sendFrame = fc
	.record({ entryId: fc.bigInt(0n, 2n ** 64n - 1n), message, requestTimeout: duration })
	.map((entry) =>
		create(SendStreamRequestSchema, {
			frame: { case: "batch", value: { entries: [{ ...entry, to: { target: { case: "pluginId", value: "bob" } } }] } },
		}),
	);
const attachFrame = reply.map((content) =>
	create(AttachRequestSchema, { frame: { case: "reply", value: { deliveryId: "17", reply: content } } }),
);

const readers: [string, DescMessage, fc.Arbitrary<Uint8Array>, (bytes: Uint8Array) => Uint8Array][] = [
	[
		"message",
		MessageSchema,
		message.map((value) => toBinary(MessageSchema, value)),
		(bytes) => {
			const draft = parseMessage(bytes, "alice", "message", "durable");
			return stampMessage(draft, { id: "x", source: "alice", recipient: "bob", hubTime: 1, requiresResponse: true });
		},
	],
	[
		"reply",
		ReplyContentSchema,
		reply.map((value) => toBinary(ReplyContentSchema, value)),
		(bytes) => parseReply(bytes, "reply").wire,
	],
];

test.each(readers)(
	"a %s that the hub lets through is one that every recipient can read",
	(_name, schema, valid, read) => {
		let passed = 0;
		fc.assert(
			fc.property(damaged(valid), (bytes) => {
				let wire: Uint8Array;
				try {
					wire = read(bytes);
				} catch (error) {
					expect(error).toBeInstanceOf(HubError);
					return;
				}
				passed++;
				fromBinary(schema, wire);
			}),
			{ numRuns: 1500 },
		);
		expect(passed).toBeGreaterThan(20);
	},
);

test("frames that are damaged are refused and do nothing worse", () => {
	const frames = fc.oneof(
		damaged(sendFrame.map((value) => toBinary(SendStreamRequestSchema, value))),
		damaged(attachFrame.map((value) => toBinary(AttachRequestSchema, value))),
		fc.uint8Array({ maxLength: 60 }),
	);
	fc.assert(
		fc.property(frames, (bytes) => {
			for (const read of [readSendFrame, readAttachFrame]) {
				try {
					read(bytes);
				} catch (error) {
					expect(error).toBeInstanceOf(HubError);
				}
			}
		}),
		{ numRuns: 2000 },
	);
});

test("an entry id keeps all of its 64 bits", () => {
	fc.assert(
		fc.property(sendFrame, (frame) => {
			const read = readSendFrame(toBinary(SendStreamRequestSchema, frame));
			if (read.kind !== "batch" || frame.frame.case !== "batch") throw new Error("not a batch");
			expect(BigInt(read.entries[0]!.entryId)).toBe(frame.frame.value.entries[0]!.entryId);
		}),
	);
});
