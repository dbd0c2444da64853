import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Event, EventSchema, SubscribeResponseSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { fromCloudEvent, toCloudEvent } from "../../src/client/exports.ts";
import { HubEvent } from "../../src/client/hub-event.ts";
import { WireEvent } from "../../src/client/wire-event.ts";
import { decodeFrame } from "../../src/client/wire-frame.ts";

const text = fc.string({ unit: "grapheme", maxLength: 40 });
const payload = fc.oneof(
	fc.constant(undefined),
	fc.jsonValue().map((value) => ({ body: { case: "json" as const, value: JSON.stringify(value) }, schema: "s" })),
	fc.uint8Array().map((value) => ({ body: { case: "binary" as const, value }, contentType: "c" })),
);
const event = fc
	.record({
		id: text,
		type: text,
		subject: text,
		source: text,
		attributes: fc.dictionary(fc.constantFrom("a", "b", "hub-x"), text),
		time: fc.option(fc.record({ seconds: fc.bigInt(0n, 4_000_000_000n), nanos: fc.nat(999_999_999) }), {
			nil: undefined,
		}),
		payload,
		sequence: fc.bigInt(0n, 2n ** 64n - 1n),
		isReplay: fc.boolean(),
	})
	.map((fields) => create(EventSchema, fields));

function seen(view: HubEvent): unknown[] {
	const { id, type, source, subject, attributes, time, data, json, bytes, isReplay, position } = view;
	return [id, type, source, subject, attributes, time, data, json, bytes, isReplay, position];
}

describe("an event in wire form", () => {
	it("reads as the decoded event does", () => {
		fc.assert(
			fc.property(event, (message) => {
				const bytes = toBinary(EventSchema, message);
				const decoded = new HubEvent(fromBinary(EventSchema, bytes), "e", true);
				expect(seen(new HubEvent(new WireEvent(bytes), "e", true))).toEqual(seen(decoded));
			}),
			{ numRuns: 500 },
		);
	});

	it("takes the last of repeated fields, and steps over what it does not know", () => {
		const first = toBinary(EventSchema, create(EventSchema, { id: "a", type: "t", source: "liar" }));
		const second = toBinary(EventSchema, create(EventSchema, { source: "me", sequence: 300n }));
		// Unknown fields 30 (varint), 31 (64 bits), 32 (bytes) and 33 (32 bits).
		const unknown = [0xf0, 1, 0x96, 1, 0xf9, 1, 1, 2, 3, 4, 5, 6, 7, 8, 0x82, 2, 2, 9, 9, 0x8d, 2, 1, 2, 3, 4];
		const view = new HubEvent(new WireEvent(new Uint8Array([...first, ...unknown, ...second])), "e", true);
		expect([view.id, view.type, view.source, view.position.sequence]).toEqual(["a", "t", "me", 300n]);
	});

	it("is cut out of its frame, and other frames are decoded as a whole", () => {
		const events = [create(EventSchema, { id: "a" }), create(EventSchema, { id: "b" })];
		const position = { epoch: "e", sequence: 2n };
		const batch = { position, frame: { case: "batch" as const, value: { events, subscriptionId: "s" } } };
		const decoded = decodeFrame(toBinary(SubscribeResponseSchema, create(SubscribeResponseSchema, batch)));
		expect(decoded.position).toMatchObject(position);
		expect(decoded.frame.case === "wireBatch" && decoded.frame.value.map((bytes) => new WireEvent(bytes).id)).toEqual([
			"a",
			"b",
		]);
		const ready = { position, frame: { case: "ready" as const, value: { id: "s" } } };
		const bytes = toBinary(SubscribeResponseSchema, create(SubscribeResponseSchema, ready));
		expect(decodeFrame(bytes)).toEqual(fromBinary(SubscribeResponseSchema, bytes));
	});
});

describe("CloudEvents", () => {
	const hubEvent = (fields: Partial<Event>) => new HubEvent(create(EventSchema, fields as object), "e", false);

	it("are what events become", () => {
		const time = { seconds: 1_900_000_000n, nanos: 250_000_000 };
		const json = hubEvent({
			id: "1",
			type: "task.created",
			source: "planner",
			subject: "tasks/1",
			time: time as never,
			orderingKey: "k",
			attributes: { traceparent: "00-1", "Not-Allowed": "x", id: "spoof" },
			payload: { body: { case: "json", value: '{"a":1}' }, schema: "urn:s", contentType: "" } as never,
		});
		expect(toCloudEvent(json)).toEqual({
			specversion: "1.0",
			id: "1",
			type: "task.created",
			source: "planner",
			subject: "tasks/1",
			time: "2030-03-17T17:46:40.250Z",
			partitionkey: "k",
			traceparent: "00-1",
			datacontenttype: "application/json",
			dataschema: "urn:s",
			data: { a: 1 },
		});
		const bytes = hubEvent({ payload: { body: { case: "binary", value: new Uint8Array([1, 255]) } } as never });
		expect(toCloudEvent(bytes)).toMatchObject({ data_base64: "Af8=", datacontenttype: "application/octet-stream" });
	});

	it("become events", () => {
		const draft = fromCloudEvent({
			specversion: "1.0",
			id: "1",
			source: "elsewhere",
			type: "a.b",
			time: "2030-03-17T17:46:40.250Z",
			partitionkey: "k",
			traceparent: "00-1",
			dataschema: "urn:s",
			data_base64: "Af8=",
		});
		expect(draft).toEqual({
			id: "1",
			type: "a.b",
			time: new Date("2030-03-17T17:46:40.250Z"),
			orderingKey: "k",
			attributes: { traceparent: "00-1" },
			schema: "urn:s",
			data: new Uint8Array([1, 255]),
		});
		expect(() => fromCloudEvent({ specversion: "0.3" } as never)).toThrow(/specversion/);
	});
});
