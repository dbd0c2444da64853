import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { expect, test } from "vitest";
import { temporaryFolder } from "../harness/state-backends.ts";

const CYCLES = Number(process.env.CONSUMER_CRASH_CYCLES ?? 10);
const CYCLE_MS = 20_000;
/** Confirmations heard before the kill. */
const MAX_HEARD = 400;
const KEYS = 7;

/** What the consumers were told, as heard by the process that kills them. */
class Ledger {
	readonly emitted = new Set<number>();
	readonly confirmed = new Set<number>();
	/** For each key, what was delivered, the first time each. */
	readonly order = Array.from({ length: KEYS }, () => [] as number[]);
	readonly delivered = new Set<number>();
	/** Events that are dead, as far as was told. */
	readonly dead = new Set<number>();
	readonly problems: string[] = [];
	returned = 0;

	hear(line: string): void {
		const [word, text] = line.split(" ");
		const number = Number(text);
		if (word === "emitted") this.emitted.add(number);
		if (word === "confirmed") this.confirmed.add(number);
		if (word === "dead") this.dead.add(number);
		if (word === "returning") this.dead.delete(number);
		if (word === "returned") this.returned++;
		if (word === "problem") this.problems.push(line);
		if (word !== "delivered") return;
		if (this.dead.has(number)) this.problems.push(`${number} was delivered while it was dead`);
		if (this.confirmed.has(number)) this.problems.push(`${number} was delivered after it was confirmed`);
		if (this.delivered.has(number)) return;
		this.delivered.add(number);
		this.order[number % KEYS]!.push(number);
	}
}

async function run(ledger: Ledger, args: readonly string[], enough: number): Promise<void> {
	const consumer = spawn(process.execPath, [join(import.meta.dirname, "crash-consumer.ts"), ...args]);
	let complaint = "";
	let rest = "";
	let heard = 0;
	consumer.stderr.setEncoding("utf8").on("data", (chunk: string) => {
		complaint += chunk;
	});
	consumer.stdout.setEncoding("utf8").on("data", (chunk: string) => {
		// A line cut short by the kill was never told whole and does not count.
		const lines = (rest + chunk).split("\n");
		rest = lines.pop()!;
		for (const line of lines) {
			ledger.hear(line);
			if (line.startsWith("confirmed") && ++heard === enough) consumer.kill("SIGKILL");
		}
	});
	const [code, signal] = await once(consumer, "close");
	expect({ code, signal, complaint }).toEqual({
		code: args[2] === "drain" ? 0 : null,
		signal: args[2] === "drain" ? null : "SIGKILL",
		complaint: "",
	});
}

test(`a durable subscription loses and repeats nothing over SIGKILL, ${CYCLES} times`, {
	timeout: (CYCLES + 1) * CYCLE_MS,
}, async () => {
	using folder = temporaryFolder();
	const directory = join(folder.path, "state");
	const ledger = new Ledger();
	for (let cycle = 0; cycle < CYCLES; cycle++) {
		// Ids go on behind what may have been stored without being told.
		const first = Math.max(0, ...ledger.emitted) + 1000;
		await run(ledger, [directory, String(first)], 1 + Math.floor(Math.random() * MAX_HEARD));
		expect(ledger.problems).toEqual([]);
	}
	await run(ledger, [directory, "0", "drain"], Number.POSITIVE_INFINITY);
	expect(ledger.problems).toEqual([]);
	expect([...ledger.emitted].filter((number) => !ledger.delivered.has(number))).toEqual([]);
	expect(ledger.dead).toEqual(new Set());
	expect(ledger.returned).toBeGreaterThan(CYCLES);
	// The order of a key: the first deliveries of its events are in the order of the log, which numbers ascend with.
	for (const order of ledger.order) expect(order).toEqual([...order].sort((a, b) => a - b));
	expect(ledger.confirmed.size).toBeGreaterThan(CYCLES);
});
