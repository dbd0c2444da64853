import http2, { type ClientHttp2Session } from "node:http2";
import { create, type DescMessage, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { EmitRequestSchema, EmitStreamRequestSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import {
	AcknowledgeRequestSchema,
	AttachRequestSchema,
	ReplyRequestSchema,
	RequestRequestSchema,
	SendRequestSchema,
	SendStreamRequestSchema,
} from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { type Clients, TestHub } from "../harness/hub.ts";
import { grpcFrame, rawCallOn } from "../harness/raw-grpc.ts";

interface Side {
	readonly hub: TestHub;
	readonly plugin: Clients;
	readonly session: ClientHttp2Session;
}

const EVENTS = "/qirvo.hub.v1.EventService";
const MESSAGING = "/qirvo.hub.v1.MessagingService";

function bytesOf<D extends DescMessage>(schema: D, init: MessageInitShape<D>): Buffer {
	return Buffer.from(toBinary(schema, create(schema, init)));
}

const to = { target: { case: "pluginId", value: "nobody" } } as const;
const message = {
	id: "m1",
	type: "a.b",
	time: { seconds: 5n, nanos: 7 },
	attributes: { a: "b" },
	payload: { body: { case: "json", value: "{}" }, contentType: "x" },
} as const;
const event = { ...message, subject: "s" };
const settlement = { deliveryId: "d", outcome: { case: "acknowledge", value: true } } as const;

/** A well-formed request of every method that takes its requests in wire form. */
const REQUESTS: readonly { readonly path: string; readonly bytes: Buffer }[] = [
	{ path: `${EVENTS}/Emit`, bytes: bytesOf(EmitRequestSchema, { event }) },
	{ path: `${EVENTS}/EmitStream`, bytes: bytesOf(EmitStreamRequestSchema, { batchId: 3n, events: [event, event] }) },
	{ path: `${MESSAGING}/Send`, bytes: bytesOf(SendRequestSchema, { to, message, durability: 1 }) },
	{ path: `${MESSAGING}/Request`, bytes: bytesOf(RequestRequestSchema, { to, message, timeout: { seconds: 1n } }) },
	{
		path: `${MESSAGING}/SendStream`,
		bytes: bytesOf(SendStreamRequestSchema, {
			frame: { case: "batch", value: { entries: [{ entryId: 1n, to, message, durability: 1 }] } },
		}),
	},
	{
		path: `${MESSAGING}/Attach`,
		bytes: bytesOf(AttachRequestSchema, { frame: { case: "open", value: { instanceId: "i", maxInFlight: 3 } } }),
	},
	{
		path: `${MESSAGING}/Acknowledge`,
		bytes: bytesOf(AcknowledgeRequestSchema, { sessionId: "s", deliveries: [settlement] }),
	},
	{
		path: `${MESSAGING}/Reply`,
		bytes: bytesOf(ReplyRequestSchema, { sessionId: "s", reply: { deliveryId: "d", reply: { success: true } } }),
	},
];

const KNOWN: readonly { readonly name: string; readonly path: string; readonly hex: string }[] = [
	{ name: "a number that ends beyond its message", path: `${MESSAGING}/Attach`, hex: "0a0210af03" },
	{ name: "the end of a group that did not begin", path: `${MESSAGING}/Reply`, hex: "0a01001203080164" },
	{ name: "eight bytes for a nested message", path: `${MESSAGING}/Send`, hex: "0902667a" },
	{ name: "an unknown group", path: `${MESSAGING}/Send`, hex: "a30608010bac06a406" },
	{ name: "an unknown group with one in it", path: `${MESSAGING}/Send`, hex: "a306ab060801ac06a406" },
	{ name: "an unknown group that does not end", path: `${MESSAGING}/Send`, hex: "a3060801" },
	{ name: "a durability of more than 32 bits", path: `${MESSAGING}/Send`, hex: "188180808010" },
	{ name: "a number for a string", path: `${MESSAGING}/Reply`, hex: "0801" },
	{ name: "a number for an event", path: `${EVENTS}/Emit`, hex: "0801" },
	{ name: "a session opened twice in one frame", path: `${MESSAGING}/Attach`, hex: "0a020a000a0310a11f" },
	{ name: "a fault behind a field that is refused", path: `${MESSAGING}/Send`, hex: "0a001200187f0a05" },
	{ name: "a fault behind an event that is refused", path: `${EVENTS}/Emit`, hex: "0a021200ff" },
];

let sides: readonly [Side, Side];

beforeAll(async () => {
	const open = async (fastLane: boolean): Promise<Side> => {
		const hub = await TestHub.start({ options: { fastLane } });
		const session = http2.connect(hub.url);
		return { hub, plugin: await hub.enrol("plugin"), session };
	};
	sides = [await open(true), await open(false)];
});

afterAll(async () => {
	for (const { session, hub } of sides) {
		session.destroy();
		await hub[Symbol.asyncDispose]();
	}
});

/** How each lane ended the call. */
async function ends(path: string, bytes: Uint8Array) {
	return Promise.all(
		sides.map(async ({ plugin, session }) => {
			const headers = { authorization: `Bearer ${plugin.token}` };
			const outcome = await rawCallOn(session, { path, headers, body: [grpcFrame(bytes)] });
			const { grpcStatus, grpcMessage, reason, details } = outcome;
			// Each hub's log has an epoch of its own.
			const { epoch: _, ...metadata } = outcome.metadata;
			return { grpcStatus, grpcMessage, reason, metadata, details };
		}),
	);
}

describe("both lanes say the same about what is no plain message", () => {
	it.each(KNOWN)("$name", async ({ path, hex }) => {
		const [fast, connect] = await ends(path, Buffer.from(hex, "hex"));
		expect(fast).toEqual(connect);
	});

	it.each(REQUESTS)("a damaged request of $path", async ({ path, bytes }) => {
		const damage = fc.array(
			fc.record({
				at: fc.nat(bytes.byteLength),
				remove: fc.nat(2),
				insert: fc.uint8Array({ maxLength: 2 }),
			}),
			{ minLength: 1, maxLength: 3 },
		);
		await fc.assert(
			fc.asyncProperty(damage, async (edits) => {
				let damaged = bytes;
				for (const { at, remove, insert } of edits) {
					damaged = Buffer.concat([damaged.subarray(0, at), insert, damaged.subarray(at + remove)]);
				}
				const [fast, connect] = await ends(path, damaged);
				expect(fast).toEqual(connect);
			}),
			{ numRuns: 150 },
		);
	});
});
