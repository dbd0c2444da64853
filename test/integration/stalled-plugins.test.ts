import { expect, test } from "vitest";
import { Durability } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { AttachedPlugin } from "../harness/attached-plugin.ts";
import { type CuttingRelay, startCuttingRelay } from "../harness/cutting-relay.ts";
import { type Clients, connectClients, until } from "../harness/hub.ts";
import { HubProcess, TestFolder } from "../harness/hub-process.ts";
import { residentBytes } from "../harness/process-memory.ts";
import { Sending } from "../harness/sending.ts";

/** Pairs of windows, without and beside stalls; up to three times as many where a busy machine leaves it in doubt. */
const WINDOWS = Number(process.env.STALL_WINDOWS ?? 5);
const WINDOW_MS = 1_000;
const HEALTHY = 80;
const STALLED = 20;
const MIB = 1024 * 1024;
const KINDS = [Durability.DURABLE, Durability.TRANSIENT];
/** Messages that fill the mailboxes, and more. */
const FLOOD = 100_000;
const FILLER = "x".repeat(200);
/** A half-open connection is noticed after the keepalive interval and its timeout, 20 s and 10 s. */
const VANISHED_MS = 45_000;

const to = (pluginId: string) => ({ target: { case: "pluginId", value: pluginId } }) as const;

/** One of the plugins that stall: the numbers of what it was sent and the hub accepted, and of what it got. */
class Staller {
	readonly id: string;
	/** How it stalls: by giving no credit, or by not reading its connection. */
	readonly isDeaf: boolean;
	readonly clients: Clients;
	readonly accepted = new Map<Durability, number[]>(KINDS.map((kind) => [kind, []]));
	readonly got = new Map<Durability, Set<number>>(KINDS.map((kind) => [kind, new Set()]));
	/** Deliveries of what it had got before. */
	repeats = 0;
	/** Why messages were refused, of each kind. */
	readonly refused = new Map<Durability, Set<string>>(KINDS.map((kind) => [kind, new Set()]));
	plugin: AttachedPlugin;

	constructor(id: string, isDeaf: boolean, clients: Clients) {
		this.id = id;
		this.isDeaf = isDeaf;
		this.clients = clients;
		this.plugin = this.attach(clients);
	}

	attach(clients: Clients): AttachedPlugin {
		return new AttachedPlugin(clients, ({ type, payload }) => {
			const kind = type === "job.durable" ? Durability.DURABLE : Durability.TRANSIENT;
			const got = this.got.get(kind)!;
			const { n } = JSON.parse(payload!.body.value as string);
			if (got.has(n)) this.repeats++;
			got.add(n);
		});
	}

	/** Whether messages of each kind were refused. */
	get isFull(): boolean {
		return KINDS.every((kind) => this.refused.get(kind)!.size > 0);
	}

	/** Whether it has got all that it was promised: a transient message is lost with the session that it was for. */
	hasAll(isReconnected: boolean): boolean {
		const kinds = isReconnected && this.isDeaf ? [Durability.DURABLE] : KINDS;
		return kinds.every((kind) => this.got.get(kind)!.size >= this.accepted.get(kind)!.length);
	}
}

/** 80 plugins that are asked all the time, and 20 that get messages all the time and can stall. */
class Crowd implements AsyncDisposable {
	readonly healthy: string[] = [];
	readonly stallers: Staller[] = [];
	readonly hub: HubProcess;
	readonly #relay: CuttingRelay;
	readonly #requests: Sending;
	readonly #messages: Sending;
	readonly #direct: Clients[] = [];
	/** Messages that those which can stall were sent. */
	fed = 0;
	#next = 0;

	private constructor(hub: HubProcess, relay: CuttingRelay, sender: Clients) {
		this.hub = hub;
		this.#relay = relay;
		this.#requests = new Sending(sender);
		this.#messages = new Sending(sender);
	}

	static async gather(hub: HubProcess): Promise<Crowd> {
		const relay = await startCuttingRelay(hub.url);
		const crowd = new Crowd(hub, relay, await hub.enrol("sender"));
		for (let i = 0; i < HEALTHY; i++) {
			const id = `healthy-${i}`;
			await new AttachedPlugin(await hub.enrol(id), () => {}).ready;
			crowd.healthy.push(id);
		}
		for (let i = 0; i < STALLED; i++) {
			const direct = await hub.enrol(`staller-${i}`);
			const isDeaf = i % 2 === 1;
			crowd.#direct.push(direct);
			const clients = isDeaf ? connectClients(relay.url, direct.token) : direct;
			const staller = new Staller(`staller-${i}`, isDeaf, clients);
			await staller.plugin.ready;
			crowd.stallers.push(staller);
		}
		return crowd;
	}

	stall(isStalled: boolean): void {
		for (const { plugin, isDeaf } of this.stallers) if (!isDeaf) plugin.pause(isStalled);
		this.#relay.freeze(isStalled);
	}

	/** Those that do not read come back on another connection. */
	async comeBack(): Promise<void> {
		for (const [index, staller] of this.stallers.entries()) {
			if (!staller.isDeaf) {
				staller.plugin.pause(false);
				continue;
			}
			staller.plugin = staller.attach(this.#direct[index]!);
			await staller.plugin.ready;
		}
	}

	/** `count` messages of each kind for each of those that can stall. */
	feed(count: number): void {
		for (const kind of KINDS) {
			const type = kind === Durability.DURABLE ? "job.durable" : "job.transient";
			const entries = this.stallers.flatMap((staller) =>
				Array.from({ length: count }, () => {
					const n = ++this.fed;
					const body = { case: "json", value: JSON.stringify({ n, FILLER }) } as const;
					return { staller, n, to: to(staller.id), message: { type, payload: { body } }, durability: kind };
				}),
			);
			this.#messages.send(entries, (outcome, index) => {
				const { staller, n } = entries[index]!;
				if (outcome.case === "accepted") staller.accepted.get(kind)!.push(n);
				if (outcome.case === "error") staller.refused.get(kind)!.add(outcome.value.reason);
			});
		}
	}

	/** Feeds as fast as the hub answers, until there is enough. */
	async flood(isEnough: () => boolean): Promise<void> {
		const problem = () => `not refused: ${this.stallers.filter((staller) => !staller.isFull).map(({ id }) => id)}`;
		await until(
			() => {
				if (isEnough()) return true;
				if (this.#messages.unanswered < 2_000) this.feed(25);
				return false;
			},
			{ ms: 60_000, problem },
		);
	}

	/** Feeds and asks for a while: how long each request of those that do not stall took, in milliseconds. */
	async window(ms: number): Promise<number[]> {
		const took: number[] = [];
		const failures: unknown[] = [];
		const over = performance.now() + ms;
		for (let tick = 0; performance.now() < over; tick++) {
			if (tick % 2 === 0) this.feed(1);
			const at = performance.now();
			const entries = Array.from({ length: 4 }, () => ({
				to: to(this.healthy[this.#next++ % HEALTHY]!),
				message: { type: "ask.me" },
				requestTimeout: { seconds: 30n },
			}));
			this.#requests.send(entries, (outcome) => {
				took.push(performance.now() - at);
				if (outcome.case !== "reply") failures.push(outcome.value);
			});
			await new Promise((resolve) => setTimeout(resolve, 10));
		}
		await until(() => this.#requests.unanswered === 0, { ms: 30_000 });
		expect(failures).toEqual([]);
		return took;
	}

	/** Nothing is on its way to the hub, and nothing that it has accepted is still to come. */
	async caughtUp(isReconnected = false): Promise<void> {
		const rest = () => this.stallers.filter((staller) => !staller.hasAll(isReconnected)).map(({ id }) => id);
		await until(() => this.#messages.unanswered === 0 && rest().length === 0, {
			ms: 60_000,
			problem: () => `still behind: ${rest()}`,
		});
	}

	async [Symbol.asyncDispose](): Promise<void> {
		for (const { clients, isDeaf } of this.stallers) if (isDeaf) clients[Symbol.dispose]();
		await this.#relay[Symbol.asyncDispose]();
	}
}

test("20 of 100 plugins that stall hurt neither the others nor the hub, and lose nothing durable", {
	timeout: 240_000 + WINDOWS * 20_000,
}, async () => {
	using folder = new TestFolder();
	await using hub = await HubProcess.start("embedded", folder.path);
	await using crowd = await Crowd.gather(hub);
	await crowd.window(WINDOW_MS);
	const without: number[] = [];
	const beside: number[] = [];
	const isHarmless = () => median(beside) <= 2 * median(without);
	for (let pair = 0; pair < WINDOWS || (pair < 3 * WINDOWS && !isHarmless()); pair++) {
		await crowd.caughtUp();
		without.push(p99(await crowd.window(WINDOW_MS)));
		await crowd.caughtUp();
		crowd.stall(true);
		beside.push(p99(await crowd.window(WINDOW_MS)));
		crowd.stall(false);
	}
	await crowd.caughtUp();
	const told = `p99 without stalls ${without.map((ms) => ms.toFixed(1))}, beside them ${beside.map((ms) => ms.toFixed(1))}`;
	expect(isHarmless(), told).toBe(true);

	// As much is sent to those that take it, so that what the memory grows by afterwards is what stalling costs.
	const enough = crowd.fed + FLOOD;
	await crowd.flood(() => crowd.fed >= enough);
	await crowd.caughtUp();
	const before = residentBytes(hub.local.pid);
	crowd.stall(true);
	await crowd.flood(() => crowd.stallers.every(({ isFull }) => isFull));
	expect(await messageMemory(hub)).toBeLessThanOrEqual(33 * MIB);
	const deaf = crowd.stallers.filter(({ isDeaf }) => isDeaf);
	const isGone = ({ refused }: Staller) => refused.get(Durability.TRANSIENT)!.has("RECIPIENT_UNAVAILABLE");
	let most = residentBytes(hub.local.pid);
	for (const end = performance.now() + VANISHED_MS; !deaf.every(isGone) && performance.now() < end; ) {
		await crowd.window(500);
		most = Math.max(most, residentBytes(hub.local.pid));
	}
	for (const { refused, isDeaf } of crowd.stallers) {
		expect([...refused.get(Durability.DURABLE)!]).toEqual(["MAILBOX_FULL"]);
		const last = isDeaf ? "RECIPIENT_UNAVAILABLE" : "MAILBOX_FULL";
		expect(["MAILBOX_FULL", last]).toEqual(expect.arrayContaining([...refused.get(Durability.TRANSIENT)!]));
		expect([...refused.get(Durability.TRANSIENT)!].at(-1)).toBe(last);
	}
	const grown = (most - before) / MIB;
	console.log(told, `memory grown by ${grown.toFixed(1)} MiB to ${(most / MIB).toFixed(1)}`);
	expect(grown).toBeLessThanOrEqual(64);

	await crowd.comeBack();
	await crowd.caughtUp(true);
	for (const { got, accepted, repeats, isDeaf } of crowd.stallers) {
		const arrived = got.get(Durability.DURABLE)!;
		expect(accepted.get(Durability.DURABLE)!.filter((n) => !arrived.has(n))).toEqual([]);
		// What gave no credit gets everything once and in order; the others again what they had not acknowledged.
		if (isDeaf) continue;
		for (const kind of KINDS) expect([...got.get(kind)!]).toEqual(accepted.get(kind));
		expect(repeats).toBe(0);
	}
});

/** Bytes that messages take of the hub, as it says. */
async function messageMemory(hub: HubProcess): Promise<number> {
	const text = await (await fetch(`${hub.url}/metrics`)).text();
	return Number(/^hub_message_memory_bytes (\d+)$/m.exec(text)![1]);
}

function p99(values: readonly number[]): number {
	return [...values].sort((a, b) => a - b)[Math.floor(values.length * 0.99)]!;
}

function median(values: readonly number[]): number {
	return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
}
