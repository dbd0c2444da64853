/**
 * Receives durable messages, tells each in a line on standard output, acknowledges it with a call, and tells that it was
 * confirmed. It outlives its hub: each line of standard input is the URL of one to receive from. Run by the crash test, which
 * kills it. Usage: node crash-recipient.ts token
 *
 *     got <milliseconds> <message id> <attempt>
 *     confirmed <milliseconds> <message id>
 *     gone <url>
 */
import { writeSync } from "node:fs";
import { createInterface } from "node:readline";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { type Delivery, MessagingService } from "#gen/qirvo/hub/v1/messaging_service_pb.js";

const token = process.argv[2];
if (token === undefined) throw new Error("usage: crash-recipient.ts token");

/** Of the machine, so that the lines of several processes can be put in order. */
const now = () => Number(process.hrtime.bigint() / 1000n) / 1000;
const acknowledged = { case: "acknowledge", value: true } as const;

/** Settles once the hub at `url` is gone, and nothing that came from it will be told any more. */
async function receiveFrom(url: string): Promise<void> {
	const sessions = new Http2SessionManager(url);
	const transport = createGrpcTransport({
		baseUrl: url,
		sessionManager: sessions,
		interceptors: [
			(next) => (request) => {
				request.header.set("authorization", `Bearer ${token}`);
				return next(request);
			},
		],
	});
	const messaging = createClient(MessagingService, transport);
	const calls = new Set<Promise<void>>();
	const acknowledge = async (sessionId: string, deliveries: readonly Delivery[]) => {
		const settled = deliveries.map(({ deliveryId }) => ({ deliveryId, outcome: acknowledged }));
		const { failures } = await messaging.acknowledge({ sessionId, deliveries: settled });
		const failed = new Set(failures.map(({ deliveryId }) => deliveryId));
		const time = now();
		const confirmed = deliveries.filter(({ deliveryId }) => !failed.has(deliveryId));
		writeSync(1, confirmed.map(({ message }) => `confirmed ${time} ${message!.id}\n`).join(""));
	};
	try {
		let sessionId = "";
		for await (const { frame } of messaging.receive({ maxInFlight: 16, policy: { maxDeliveries: 1000 } })) {
			if (frame.case === "ready") sessionId = frame.value.id;
			if (frame.case !== "batch") continue;
			const { deliveries } = frame.value;
			const time = now();
			writeSync(1, deliveries.map(({ message }) => `got ${time} ${message!.id} ${message!.attempt}\n`).join(""));
			const call = acknowledge(sessionId, deliveries).catch(() => {});
			calls.add(call);
			void call.then(() => calls.delete(call));
		}
	} catch {}
	sessions.abort();
	await Promise.all(calls);
	writeSync(1, `gone ${url}\n`);
}

for await (const url of createInterface({ input: process.stdin })) await receiveFrom(url);
