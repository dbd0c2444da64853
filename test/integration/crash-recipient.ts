/**
 * Receives durable messages, tells each in a line on standard output, acknowledges it with a call, and tells that it was
 * confirmed. Run by the crash test, which kills it. Usage: node crash-recipient.ts url token
 *
 *     got <milliseconds> <message id> <attempt>
 *     confirmed <milliseconds> <message id>
 */
import { writeSync } from "node:fs";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { MessagingService } from "#gen/qirvo/hub/v1/messaging_service_pb.js";

const [, , url, token] = process.argv;
if (url === undefined || token === undefined) throw new Error("usage: crash-recipient.ts url token");

/** Of the machine, so that the lines of several processes can be put in order. */
const now = () => Number(process.hrtime.bigint() / 1000n) / 1000;
const transport = createGrpcTransport({
	baseUrl: url,
	interceptors: [
		(next) => (request) => {
			request.header.set("authorization", `Bearer ${token}`);
			return next(request);
		},
	],
});
const messaging = createClient(MessagingService, transport);
const acknowledged = { case: "acknowledge", value: true } as const;
let sessionId = "";

async function acknowledge(deliveryId: string, id: string): Promise<void> {
	const { failures } = await messaging.acknowledge({ sessionId, deliveries: [{ deliveryId, outcome: acknowledged }] });
	if (failures.length === 0) writeSync(1, `confirmed ${now()} ${id}\n`);
}

try {
	const policy = { maxDeliveries: 1000 };
	for await (const { frame } of messaging.receive({ maxInFlight: 16, policy })) {
		if (frame.case === "ready") sessionId = frame.value.id;
		if (frame.case !== "batch") continue;
		for (const { deliveryId, message } of frame.value.deliveries) {
			writeSync(1, `got ${now()} ${message!.id} ${message!.attempt}\n`);
			void acknowledge(deliveryId, message!.id).catch(() => process.exit(0));
		}
	}
} catch {
	process.exit(0);
}
