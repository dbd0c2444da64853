// P1: unary gRPC calls from a load generator written in C, against the hub on memory state and two bare servers.
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { create, toBinary } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { EmitRequestSchema, EventService } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { type Benchmark, compare, installed, TemporaryFolder, Worker } from "./bench.ts";
import { HubProcess } from "./hub-process.ts";

const PATH = "/qirvo.hub.v1.EventService/Emit";
const DURABILITY = "memory / none";

/** The rate of successful calls a second, by `h2load` with 8 connections of 32 streams. */
function load(port: number, body: string, calls: number, token: string): number {
	const { stdout, status } = spawnSync(
		"h2load",
		[
			"-n",
			String(calls),
			"-c",
			"8",
			"-m",
			"32",
			"-t",
			"1",
			"-d",
			body,
			"-H",
			"content-type: application/grpc",
			"-H",
			"te: trailers",
		]
			.concat(["-H", `authorization: Bearer ${token}`])
			.concat(`http://127.0.0.1:${port}${PATH}`),
		{ encoding: "utf8", maxBuffer: 1 << 24, timeout: 120_000 },
	);
	const rate = /finished in [^,]+, ([\d.]+) req\/s/.exec(stdout)?.[1];
	const succeeded = Number(/(\d+) succeeded/.exec(stdout)?.[1]);
	if (status !== 0 || rate === undefined || succeeded !== calls) throw new Error(`h2load: ${stdout}`);
	return Number(rate);
}

export const benchmark: Benchmark = async ({ quick }) => {
	if (!installed("h2load")) return [{ id: "P1", peer: "node:http2, connect-node", skipped: "h2load is not installed" }];
	using folder = new TemporaryFolder();
	const body = join(folder.path, "request");
	const message = toBinary(
		EmitRequestSchema,
		create(EmitRequestSchema, {
			event: {
				type: "bench.unary",
				payload: { body: { case: "json", value: JSON.stringify({ text: "x".repeat(187) }) } },
			},
		}),
	);
	const frame = Buffer.alloc(5 + message.length);
	frame.writeUInt32BE(message.length, 1);
	frame.set(message, 5);
	writeFileSync(body, frame);

	await using hub = await HubProcess.start("memory");
	await using http2 = Worker.node("peers/http2-echo.ts");
	await using connect = Worker.node("peers/connect-echo.ts");
	const { port: http2Port } = await http2.json<{ port: number }>();
	const { port: connectPort } = await connect.json<{ port: number }>();
	const token = await hub.enrol("bench-load");
	const calls = quick ? 2_000 : 40_000;
	const connectCalls = quick ? 1_000 : 10_000;
	const rates = { hub: [] as number[], http2: [] as number[], connect: [] as number[] };
	let sent = 0;
	for (let round = -1; round < 3; round++) {
		const measured = {
			hub: load(hub.port, body, calls, token),
			http2: load(http2Port, body, calls, token),
			connect: load(connectPort, body, connectCalls, token),
		};
		sent += calls;
		// The first round warms the servers up.
		if (round >= 0) for (const peer of ["hub", "http2", "connect"] as const) rates[peer].push(measured[peer]);
	}
	await expectStored(hub, token, sent);
	return [
		compare("P1", "bare node:http2 echo", rates.http2, rates.hub, DURABILITY, { reach: ">= 0.5" }),
		compare("P1", "bare connect-node", rates.connect, rates.hub, DURABILITY, { reach: ">= 4" }),
	];
};

/** The load generator does not read gRPC statuses; the log tells whether every call did its work. */
async function expectStored(hub: HubProcess, token: string, sent: number): Promise<void> {
	const transport = createGrpcTransport({ baseUrl: hub.url });
	const headers = { authorization: `Bearer ${token}` };
	const { position } = await createClient(EventService, transport).emit({ event: { type: "bench.last" } }, { headers });
	const stored = Number(position?.sequence) - 1;
	if (stored !== sent) throw new Error(`the hub stored ${stored} events of ${sent}`);
}
