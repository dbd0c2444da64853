import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { Clients } from "../harness/hub.ts";
import { until } from "../harness/hub.ts";
import { HubProcess, TestFolder } from "../harness/hub-process.ts";
import { MessageLedger } from "./message-ledger.ts";

const CYCLES = Number(process.env.CRASH_CYCLES ?? 5);
const CYCLE_MS = 15_000;
const KEYS = 6;
/** Confirmations heard before a kill: from none to well under way. */
const MAX_HEARD = 200;
const RECIPIENTS = 2;
/** Messages that wait at most, so that the last cycle can deliver what the others have left. */
const MAX_BACKLOG = 400;

test(`durable messages survive SIGKILL of the hub and of recipients, ${CYCLES} times`, {
	timeout: (CYCLES + 2) * CYCLE_MS,
}, async () => {
	using folder = new TestFolder();
	const data = join(folder.path, "data");
	const env = { NODE_COMPILE_CACHE: join(folder.path, "compiled") };
	const ledger = new MessageLedger();
	const senders = Array.from({ length: KEYS }, (_, key) => new KeySender(`k${key}`, ledger));
	let senderToken = "";
	let workerToken = "";
	{
		await using hub = await HubProcess.start("embedded", data, { env });
		senderToken = (await hub.enrol("sender")).token;
		workerToken = (await hub.enrol("worker")).token;
	}
	for (let cycle = 0; cycle <= CYCLES; cycle++) {
		await using hub = await HubProcess.start("embedded", data, { env });
		const recipients = Array.from({ length: RECIPIENTS }, () => new Recipient(hub.url, workerToken, env, ledger));
		const isLast = cycle === CYCLES;
		const stop = new AbortController();
		const clients = hub.connect(senderToken);
		const sending = Promise.allSettled(senders.map((sender) => sender.run(clients, isLast ? 20 : 0, stop.signal)));
		if (isLast) {
			expect((await sending).map(({ status }) => status)).toEqual(senders.map(() => "fulfilled"));
			await until(() => ledger.missing.length === 0, { ms: CYCLE_MS, problem: () => `lost: ${ledger.missing}` });
			await Promise.all(recipients.map((recipient) => recipient.kill()));
			break;
		}
		for (const victim of ["recipient", "hub"] as const) {
			const enough = ledger.confirmed.size + Math.floor(Math.random() * MAX_HEARD);
			await until(() => ledger.confirmed.size >= enough, { ms: CYCLE_MS });
			if (victim === "hub") break;
			const at = Math.floor(Math.random() * RECIPIENTS);
			await recipients[at]!.kill();
			recipients[at] = new Recipient(hub.url, workerToken, env, ledger);
		}
		stop.abort();
		await hub.kill();
		await sending;
		await Promise.all(recipients.map((recipient) => recipient.kill()));
		ledger.verify();
	}
	ledger.verify();
	expect(ledger.missing).toEqual([]);
	expect(ledger.accepted.size).toBeGreaterThan(KEYS * 20);
});

/** Sends the messages of one ordering key one after the other; what has no answer when the hub dies is sent again. */
class KeySender {
	readonly #key: string;
	readonly #ledger: MessageLedger;
	readonly #ids: string[] = [];

	constructor(key: string, ledger: MessageLedger) {
		this.#key = key;
		this.#ledger = ledger;
		ledger.sent.set(key, this.#ids);
	}

	/** `count` messages, or (0) until the hub is gone. */
	async run({ messaging }: Clients, count: number, signal: AbortSignal): Promise<void> {
		const unanswered = this.#ids.filter((id) => !this.#ledger.accepted.has(id));
		for (let made = 0; count === 0 ? !signal.aborted : made < count; made++) {
			const id = unanswered.shift() ?? this.#newId();
			const message = {
				id,
				type: "job",
				orderingKey: this.#key,
				payload: { body: { case: "json", value: "1" } },
			} as const;
			await until(() => signal.aborted || this.#ledger.accepted.size - this.#ledger.came.size < MAX_BACKLOG, {
				ms: CYCLE_MS,
			});
			await messaging.send({ to: { target: { case: "pluginId", value: "worker" } }, message });
			this.#ledger.accepted.add(id);
		}
	}

	#newId(): string {
		const id = `${this.#key}-${this.#ids.length}`;
		this.#ids.push(id);
		return id;
	}
}

/** A recipient in a process of its own, whose lines go to the ledger. */
class Recipient {
	readonly #child: ChildProcess;
	readonly #closed: Promise<unknown>;

	constructor(url: string, token: string, env: Readonly<Record<string, string>>, ledger: MessageLedger) {
		const program = join(import.meta.dirname, "crash-recipient.ts");
		this.#child = spawn(process.execPath, [program, url, token], {
			env: { ...process.env, ...env },
			stdio: ["ignore", "pipe", "inherit"],
		});
		let rest = "";
		this.#child.stdout!.setEncoding("utf8").on("data", (chunk: string) => {
			rest = ledger.hear(rest + chunk);
		});
		this.#closed = once(this.#child, "close");
	}

	async kill(): Promise<void> {
		this.#child.kill("SIGKILL");
		await this.#closed;
	}
}
