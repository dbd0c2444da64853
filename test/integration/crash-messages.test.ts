import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { expect, test } from "vitest";
import { until } from "../harness/hub.ts";
import { HubProcess, TestFolder } from "../harness/hub-process.ts";
import { CrashSender } from "./crash-sender.ts";
import { MessageLedger } from "./message-ledger.ts";

const CYCLES = Number(process.env.MESSAGE_CRASH_CYCLES ?? 5);
/** In all. */
const MESSAGES = CYCLES * 200;
const CYCLE_MS = 30_000;
const KEYS = 12;
/** Confirmations of a cycle that are heard before a kill, at most; of two kills the later one is at 200 on average. */
const MAX_HEARD = 300;
const RECIPIENTS = 2;
/** Messages that wait at most, so that the last cycle can deliver what the others have left. */
const MAX_BACKLOG = 400;

test(`${MESSAGES} durable messages survive SIGKILL of the hub and of recipients, ${CYCLES} times each`, {
	timeout: (CYCLES + 2) * CYCLE_MS,
}, async () => {
	using folder = new TestFolder();
	const data = join(folder.path, "data");
	const env = { NODE_COMPILE_CACHE: join(folder.path, "compiled") };
	const ledger = new MessageLedger();
	const mayGo = () => ledger.accepted.size - ledger.came.size < MAX_BACKLOG;
	const senders = Array.from(
		{ length: KEYS },
		(_, key) => new CrashSender({ key: `k${key}`, ledger, mayGo, inWindows: key % 3 === 0 }),
	);
	let senderToken = "";
	let workerToken = "";
	{
		await using hub = await HubProcess.start("embedded", data, { env });
		senderToken = (await hub.enrol("sender")).token;
		workerToken = (await hub.enrol("worker")).token;
	}
	const newRecipient = () => new Recipient(workerToken, env, ledger);
	const recipients = Array.from({ length: RECIPIENTS }, newRecipient);
	try {
		for (let cycle = 0; cycle < CYCLES; cycle++) {
			await using hub = await HubProcess.start("embedded", data, { env });
			for (const recipient of recipients) recipient.receiveFrom(hub.url);
			const stop = new AbortController();
			const clients = hub.connect(senderToken);
			const sending = Promise.allSettled(senders.map((sender) => sender.run(clients, () => false, stop.signal)));
			const heard = ledger.confirmed.size;
			const points = [Math.floor(Math.random() * MAX_HEARD), Math.floor(Math.random() * MAX_HEARD)];
			const victims = Math.random() < 0.5 ? (["recipient", "hub"] as const) : (["hub", "recipient"] as const);
			for (const [index, point] of points.sort((a, b) => a - b).entries()) {
				const problem = () => `cycle ${cycle} stands still: ${ledger.summary}`;
				if (!stop.signal.aborted) await until(() => ledger.confirmed.size >= heard + point, { ms: CYCLE_MS, problem });
				if (victims[index] === "hub") {
					stop.abort();
					await hub.kill();
					continue;
				}
				const at = Math.floor(Math.random() * RECIPIENTS);
				await recipients[at]!.kill();
				recipients[at] = newRecipient();
				if (!stop.signal.aborted) recipients[at].receiveFrom(hub.url);
			}
			let ended = false;
			void sending.then(() => (ended = true));
			await until(() => ended, {
				ms: CYCLE_MS,
				problem: () => `senders of cycle ${cycle} do not end: ${ledger.summary}`,
			});
			expect(await sending).toEqual(senders.map(() => ({ status: "fulfilled", value: undefined })));
			await Promise.all(recipients.map((recipient) => recipient.left()));
			ledger.verify();
		}
		await using hub = await HubProcess.start("embedded", data, { env });
		for (const recipient of recipients) recipient.receiveFrom(hub.url);
		const isDone = () => ledger.accepted.size >= MESSAGES;
		const clients = hub.connect(senderToken);
		const sending = senders.map((sender) => sender.run(clients, isDone, new AbortController().signal));
		const late = () => `the last senders do not end: ${ledger.summary}`;
		let ended = false;
		void Promise.all(sending).then(
			() => (ended = true),
			() => (ended = true),
		);
		await until(() => ended, { ms: 2 * CYCLE_MS, problem: late });
		await Promise.all(sending);
		await until(() => ledger.missing.length === 0, { ms: CYCLE_MS, problem: () => `lost: ${ledger.missing}` });
	} finally {
		await Promise.all(recipients.map((recipient) => recipient.kill()));
	}
	ledger.verify();
	expect(ledger.missing).toEqual([]);
	expect(ledger.accepted.size).toBeGreaterThanOrEqual(MESSAGES);
});

/** A recipient in a process of its own, whose lines go to the ledger. It receives from one hub after the other. */
class Recipient {
	readonly #child: ChildProcess;
	readonly #closed: Promise<unknown>;
	/** Hubs that it was told of and has not left. */
	#hubs = 0;

	constructor(token: string, env: Readonly<Record<string, string>>, ledger: MessageLedger) {
		this.#child = spawn(process.execPath, [join(import.meta.dirname, "crash-recipient.ts"), token], {
			env: { ...process.env, ...env },
			stdio: ["pipe", "pipe", "inherit"],
		});
		let rest = "";
		this.#child.stdout!.setEncoding("utf8").on("data", (chunk: string) => {
			const lines = (rest + chunk).split("\n");
			rest = lines.pop()!;
			for (const line of lines) {
				if (line.startsWith("gone ")) this.#hubs--;
				else ledger.hear(line);
			}
		});
		this.#child.stdin!.on("error", () => {});
		this.#closed = once(this.#child, "close");
	}

	receiveFrom(url: string): void {
		this.#hubs++;
		this.#child.stdin!.write(`${url}\n`);
	}

	/** Settles once it has told everything that came from a hub that is gone. */
	async left(): Promise<void> {
		await until(() => this.#hubs === 0, {
			ms: CYCLE_MS,
			problem: () => "a recipient does not leave a hub that is gone",
		});
	}

	async kill(): Promise<void> {
		this.#child.kill("SIGKILL");
		await this.#closed;
	}
}
