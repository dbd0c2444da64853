// What one subscriber can take: a server in a process of its own sends prepared frames of 500 events (200 bytes of JSON
// each) as fast as they are read. Prints events a second for each way to read them, and processor time an event, each the
// median of five rounds.
import { fork } from "node:child_process";
import { createServer } from "node:http2";
import type { AddressInfo } from "node:net";
import { create, toBinary } from "@bufbuild/protobuf";
import { createClient, type Transport } from "@connectrpc/connect";
import { EventService, SubscribeResponseSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { GetHubInfoResponseSchema } from "#gen/qirvo/hub/v1/hub_service_pb.js";
import { connect, createLeanTransport, createNodeTransport } from "../src/client/index.ts";

const EVENTS_A_FRAME = 500;
const FRAMES = 600;
const ROUNDS = 5;

if (process.send) serve();
else await measure();

function median(values: number[]): number {
	return values.sort((a, b) => a - b)[values.length >> 1]!;
}

function framed(message: Uint8Array): Buffer {
	const frame = Buffer.alloc(5 + message.byteLength);
	frame.writeUInt32BE(message.byteLength, 1);
	frame.set(message, 5);
	return frame;
}

function frameOf(first: number): Buffer {
	const time = { seconds: 1_900_000_000n, nanos: 5 };
	const events = Array.from({ length: EVENTS_A_FRAME }, (_, index) => ({
		id: `0123456789abcdef01234567-${index}`,
		type: "bench.published",
		source: "publisher",
		time,
		hubTime: time,
		sequence: BigInt(first + index),
		payload: { body: { case: "json" as const, value: JSON.stringify({ n: index, text: "x".repeat(180) }) } },
	}));
	const frame = { case: "batch" as const, value: { events, subscriptionId: "s" } };
	const position = { epoch: "e", sequence: BigInt(first + EVENTS_A_FRAME - 1) };
	return framed(toBinary(SubscribeResponseSchema, create(SubscribeResponseSchema, { position, frame })));
}

function serve(): void {
	const frames = Array.from({ length: 4 }, (_, index) => frameOf(1 + index * EVENTS_A_FRAME));
	const ready = create(SubscribeResponseSchema, { frame: { case: "ready", value: { id: "s" } } });
	const server = createServer({ settings: { initialWindowSize: 4 << 20 } });
	server.on("stream", (stream, headers) => {
		stream.on("error", () => {});
		stream.resume();
		stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
		stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
		if (headers[":path"]?.endsWith("GetHubInfo")) {
			stream.end(framed(toBinary(GetHubInfoResponseSchema, create(GetHubInfoResponseSchema))));
			return;
		}
		stream.write(framed(toBinary(SubscribeResponseSchema, ready)));
		let sent = 0;
		const send = () => {
			while (sent < FRAMES) if (!stream.write(frames[sent++ % frames.length])) return void stream.once("drain", send);
			stream.end();
		};
		send();
	});
	server.listen(0, "127.0.0.1", () => process.send?.((server.address() as AddressInfo).port));
	process.on("disconnect", () => process.exit());
}

async function measure(): Promise<void> {
	const child = fork(import.meta.filename);
	const url = `http://127.0.0.1:${await new Promise((resolve) => child.once("message", resolve))}`;
	const lean = createLeanTransport({ url });
	const node = createNodeTransport({ url });
	const total = EVENTS_A_FRAME * FRAMES;
	const ways: [string, () => Promise<void>][] = [
		["generated client, connect-node", () => readRaw(node)],
		["generated client, lean transport", () => readRaw(lean)],
		["hub.events.on, reads type and data", () => readClient(url, true)],
		["hub.events.on, reads nothing", () => readClient(url, false)],
	];
	for (const [name, run] of ways) {
		const rates: number[] = [];
		const costs: number[] = [];
		for (let round = 0; round <= ROUNDS; round++) {
			const start = performance.now();
			const before = process.cpuUsage();
			await run();
			if (round === 0) continue;
			const { user, system } = process.cpuUsage(before);
			rates.push(total / (performance.now() - start));
			costs.push(((user + system) * 1000) / total);
		}
		const rate = Math.round(median(rates));
		process.stdout.write(
			`${name.padEnd(40)} ${rate}k events/s, ${Math.round(median(costs))} ns of processor an event\n`,
		);
	}
	lean.close();
	node.close();
	child.disconnect();

	async function readRaw(transport: Transport): Promise<void> {
		let seen = 0;
		for await (const { frame } of createClient(EventService, transport).subscribe({ patterns: ["bench.*"] })) {
			if (frame.case === "batch") for (const event of frame.value.events) if (event.payload) seen++;
		}
		if (seen !== total) throw new Error(`${seen} events came, not ${total}`);
	}
}

async function readClient(url: string, touch: boolean): Promise<void> {
	const total = EVENTS_A_FRAME * FRAMES;
	const done = Promise.withResolvers<void>();
	let seen = 0;
	let sum = 0;
	await using hub = await connect({ url });
	await hub.events.on("bench.*", (event) => {
		if (touch) sum += event.type.length + event.data.n;
		if (++seen === total) done.resolve();
	});
	await done.promise;
	if (touch && sum === 0) throw new Error("nothing was read");
}
