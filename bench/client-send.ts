// What one client can send: events and requests through a hub in a process of its own, memory backend. Prints operations a
// second and the sender's processor time for each, with so many callers at once; the median of five rounds.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SecurityAdminService } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import { startLocalHub } from "../examples/local-hub.ts";
import { connect, type HubClient } from "../src/client/index.ts";

const ROUNDS = 5;
const data = { text: "x".repeat(180) };

const directory = mkdtempSync(join(tmpdir(), "hub-bench-"));
const hub = await startLocalHub({ flags: ["--state", "memory", "--data", directory] });
try {
	await using operator = await connect({ url: hub.url, token: hub.operatorToken });
	await using sender = await enrol(operator, "sender");
	await using receiver = await enrol(operator, "receiver");
	await receiver.messages.handle("echo", (request) => request.data).ready;
	await report("emit, 1,000 at once", 100_000, 1_000, () => sender.events.emit("bench.sent", data));
	await report("emit, 64 at once", 50_000, 64, () => sender.events.emit("bench.sent", data));
	await report("emit, one at a time", 2_000, 1, () => sender.events.emit("bench.sent", data));
	await report("request, 64 at once", 20_000, 64, () => sender.messages.request("receiver", "echo", data));
	await report("request, one at a time", 2_000, 1, () => sender.messages.request("receiver", "echo", data));
} finally {
	await hub.stop();
	rmSync(directory, { recursive: true, force: true });
}

async function enrol(operator: HubClient, pluginId: string): Promise<HubClient> {
	const admin = operator.service(SecurityAdminService);
	const { token } = await admin.issueCredential({ principal: { case: "pluginId", value: pluginId } });
	const permissions = { emit: ["**"], sendTo: ["*"], receiveFrom: ["*"] };
	await admin.setPermissions({ pluginId, permissions });
	const manifest = { manifest_version: 2, id: pluginId, name: pluginId, version: "1.0.0", type: "service" };
	return connect({ url: hub.url, token, manifest });
}

async function report(name: string, total: number, callers: number, run: () => Promise<unknown>): Promise<void> {
	const rates: number[] = [];
	const costs: number[] = [];
	for (let round = 0; round <= ROUNDS; round++) {
		let left = total;
		const start = performance.now();
		const before = process.cpuUsage();
		const caller = async () => {
			while (left-- > 0) await run();
		};
		await Promise.all(Array.from({ length: callers }, caller));
		if (round === 0) continue;
		const { user, system } = process.cpuUsage(before);
		rates.push((total / (performance.now() - start)) * 1000);
		costs.push((user + system) / total);
	}
	const [rate, cost] = [median(rates), median(costs)];
	process.stdout.write(`${name.padEnd(26)} ${Math.round(rate)} a second, ${cost.toFixed(1)} µs of processor each\n`);
}

function median(values: number[]): number {
	return values.sort((a, b) => a - b)[values.length >> 1]!;
}
