import { create } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { expect, it } from "vitest";
import { type EmitStreamRequest, EmitStreamRequestSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { failureOf } from "../harness/failure.ts";
import { Feed } from "../harness/feed.ts";
import { describeHubs } from "../harness/hub.ts";
import { Outbox } from "../harness/outbox.ts";

const json = (value: unknown) => ({ body: { case: "json", value: JSON.stringify(value) } }) as const;
const batchOf = (batchId: number, events: EmitStreamRequest["events"] | object[]) =>
	create(EmitStreamRequestSchema, { batchId: BigInt(batchId), events });

describeHubs("one event", (start) => {
	it("is stored once, with what its publisher gave and what the hub stamps", async () => {
		await using hub = await start();
		const [writer, reader] = [await hub.enrol("writer"), await hub.enrol("reader")];
		const event = {
			id: "e-1",
			type: "note:written",
			subject: "notes/7",
			time: { seconds: 1_700_000_000n, nanos: 5 },
			attributes: { traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", __proto: "x" },
			orderingKey: "k",
			payload: { ...json({ a: [1, "é", null] }), contentType: "application/json", schema: "urn:note" },
		};
		const first = await writer.events.emit({ event });
		expect(first).toMatchObject({ id: "e-1", duplicate: false });
		expect(await writer.events.emit({ event })).toMatchObject({
			id: "e-1",
			duplicate: true,
			position: { ...first.position! },
			hubTime: { ...first.hubTime! },
		});
		expect(await failureOf(writer.events.emit({ event: { ...event, subject: "notes/8" } }))).toMatchObject({
			code: "Aborted",
			reason: "ID_REUSED",
		});
		// An id is unique within its source only.
		expect((await reader.events.emit({ event })).duplicate).toBe(false);
		const unnamed = await writer.events.emit({
			event: { type: "note.binary", payload: { body: { case: "binary", value: Uint8Array.of(0, 255) } } },
		});
		expect(unnamed.id).toMatch(/^.{1,36}$/);

		const { events } = await reader.events.listEvents({ patterns: ["note.*"], source: "writer" });
		expect(events).toMatchObject([
			{
				...event,
				source: "writer",
				sequence: first.position!.sequence,
				hubTime: { ...first.hubTime! },
				isReplay: false,
			},
			{ id: unnamed.id, payload: { body: { case: "binary", value: Uint8Array.of(0, 255) } } },
		]);
		expect(Math.abs(timestampMs(first.hubTime!) - Date.now())).toBeLessThan(60_000);
	});

	it("needs a grant that covers its type", async () => {
		await using hub = await start();
		const writer = await hub.enrol("writer", { emit: ["note.*", "exact"] });
		for (const type of ["note.a", "note:a", "exact"]) await writer.events.emit({ event: { type } });
		for (const type of ["note", "note.a.b", "exact.a", "other"]) {
			expect(await failureOf(writer.events.emit({ event: { type } }))).toMatchObject({
				code: "PermissionDenied",
				reason: "INSUFFICIENT_PERMISSIONS",
				metadata: { type, grant: "emit" },
			});
		}
		expect(await failureOf(hub.operator.events.emit({ event: { type: "note.a" } }))).toMatchObject({
			reason: "CALLER_NOT_ALLOWED",
		});
		expect(await failureOf(writer.events.emit({ event: { type: "note.a", source: "other" } }))).toMatchObject({
			code: "PermissionDenied",
			reason: "SPOOFED_SOURCE",
			fields: ["event.source"],
		});
		await writer.events.emit({ event: { type: "note.a", source: "writer" } });
	});
});

describeHubs("a stream of batches", (start) => {
	it("has many in flight, acknowledged in their order with consecutive sequences", async () => {
		await using hub = await start();
		const writer = await hub.enrol("writer");
		const batches = Array.from({ length: 20 }, (_, batch) =>
			batchOf(
				batch,
				Array.from({ length: 50 }, (_, index) => ({ type: "n.o", subject: `${batch}/${index}` })),
			),
		);
		const requests = new Outbox(...batches);
		const answers = new Feed(writer.events.emitStream(requests));
		await answers.when(() => answers.all("acknowledgement").length === 20);
		expect(answers.cases[0]).toBe("ready");
		const acknowledged = answers.all("acknowledgement");
		expect(acknowledged.map(({ batchId, stored }) => [batchId, stored])).toEqual(
			batches.map(({ batchId }) => [batchId, 50]),
		);
		requests.push(batchOf(77, [{ type: "n.o" }]));
		requests.end();
		await answers.ended;
		expect(answers.failure).toBeUndefined();
		expect(answers.all("acknowledgement").at(-1)).toMatchObject({ batchId: 77n, stored: 1, exceptions: [] });

		const { events } = await writer.events.listEvents({ patterns: ["n.o"], pageSize: 1000 });
		expect(events).toHaveLength(1000);
		const sequences = new Map(events.map(({ subject, sequence }) => [subject, sequence]));
		for (const [batch, { firstSequence }] of acknowledged.entries()) {
			for (let index = 0; index < 50; index++) {
				expect(sequences.get(`${batch}/${index}`)).toBe(firstSequence + BigInt(index));
			}
		}
	});

	it("fails entry by entry, and says what was stored before", async () => {
		await using hub = await start();
		const writer = await hub.enrol("writer", { emit: ["note.**", "plugin.**"], replay: ["**"] });
		const requests = new Outbox(batchOf(1, [{ id: "a", type: "note.a" }, { type: "note.b" }]));
		const answers = new Feed(writer.events.emitStream(requests));
		const { firstSequence } = await answers.first("acknowledgement");
		requests.push(
			batchOf(2, [
				{ id: "a", type: "note.a" },
				{ type: "note.c" },
				{ type: "no way" },
				{ type: "other.type" },
				{ type: "note.d", source: "somebody" },
				{ type: "plugin:registered" },
				{ id: "a", type: "note.z" },
				{ type: "note.e", attributes: { "hub-x": "1" } },
				{ type: "note.f", payload: { body: { case: "json", value: "{" } } },
				{ type: "note.g", payload: { body: { case: "binary", value: new Uint8Array(1024 * 1024 + 1) } } },
				{ type: "note.h" },
			]),
		);
		await answers.when(() => answers.all("acknowledgement").length === 2);
		const second = answers.all("acknowledgement")[1]!;
		expect(second).toMatchObject({ batchId: 2n, stored: 2 });
		const outcomes = second.exceptions.map(({ index, outcome }) => [
			index,
			outcome.case === "error" ? `${outcome.value.code} ${outcome.value.reason}` : outcome.value,
			outcome.case === "error" ? outcome.value.metadata.field : undefined,
		]);
		expect(outcomes).toEqual([
			[0, firstSequence, undefined],
			[2, "3 INVALID_EVENT_TYPE", "events[2].type"],
			[3, "7 INSUFFICIENT_PERMISSIONS", undefined],
			[4, "7 SPOOFED_SOURCE", "events[4].source"],
			[5, "7 RESERVED_EVENT_TYPE", undefined],
			[6, "10 ID_REUSED", undefined],
			[7, "3 INVALID_FIELD", 'events[7].attributes["hub-x"]'],
			[8, "7 INVALID_CONTENT", "events[8].payload.json"],
			[9, "7 INVALID_CONTENT", "events[9].payload"],
		]);
		requests.end();
		await answers.ended;
		const { events } = await writer.events.listEvents({ patterns: ["**"], source: "writer" });
		expect(events.map(({ type }) => type)).toEqual(["note.a", "note.b", "note.c", "note.h"]);
	});

	it("ends for a frame that is no batch, after acknowledging what came before", async () => {
		await using hub = await start();
		const writer = await hub.enrol("writer");
		for (const [frame, fields] of [
			[batchOf(2, []), ["events"]],
			[
				batchOf(
					2,
					Array.from({ length: 1001 }, () => ({ type: "a" })),
				),
				["events"],
			],
		] as const) {
			const requests = new Outbox(batchOf(1, [{ type: "a.b" }]), frame);
			const answers = new Feed(writer.events.emitStream(requests));
			await answers.ended;
			expect(answers.cases).toEqual(["ready", "acknowledgement"]);
			expect(answers.failure).toMatchObject({ code: "InvalidArgument", reason: "INVALID_FIELD", fields });
			requests.end();
		}
	});
});
