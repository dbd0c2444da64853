import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { expect, test } from "vitest";
import { Priority } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { decodeBlock, decodePlaces } from "../../src/messaging/block-record.ts";
import { VolatileKvStore } from "../../src/state/volatile-kv-store.ts";
import { FakeClock } from "../harness/fake-clock.ts";
import { unhurriedKv } from "../harness/kv-wrapper.ts";
import type { AttachPeer } from "../harness/messaging-peers.ts";
import { MessagingRig } from "../harness/messaging-rig.ts";
import { settled } from "../harness/settled.ts";

const ACK_WAIT_MS = 4_000;
const BACKOFF_MS = 1_000;
const MAX_DELIVERIES = 3;
const CREDIT = 4;
const WEIGHTS = [8, 3, 1];
const SPARSE_PATIENCE_MS = 200;

type Fate = "waiting" | "delivered" | "acknowledged" | "expired" | "dead";

/** What the model knows of one message. */
interface Known {
	readonly id: string;
	readonly source: string;
	readonly key: string;
	readonly priority: 0 | 1 | 2;
	readonly expiresAt: number;
	readonly deliverAt: number;
	/** When it takes its place, then its place. */
	arrival: number;
	notBefore: number;
	attempts: number;
	lateAt: number;
	deliveryId: string;
	fate: Fate;
}

/** Mailbox, policy and dead letters as one flat list; time is told to it. */
class NaiveHub {
	readonly messages: Known[] = [];
	arrivals = 0;

	send(message: Known, now: number): void {
		this.messages.push(message);
		if (message.deliverAt <= now) message.arrival = ++this.arrivals;
	}

	/** Everything that falls due up to `now`, in the order in which it does. */
	pass(now: number): void {
		while (true) {
			const due = this.messages.map((message) => this.#nextDue(message)).sort((a, b) => a.at - b.at)[0];
			if (due === undefined || due.at > now) return;
			due.run();
		}
	}

	#nextDue(message: Known): { at: number; run: () => void } {
		const never = { at: Number.POSITIVE_INFINITY, run: () => {} };
		if (message.fate === "delivered") return { at: message.lateAt, run: () => this.fail(message, message.lateAt) };
		if (message.fate !== "waiting") return never;
		const arrives = { at: message.deliverAt, run: () => this.#arrive(message) };
		const expires = { at: message.expiresAt, run: () => this.#expire(message) };
		if (message.arrival > 0) return expires;
		return arrives.at <= expires.at ? arrives : expires;
	}

	#arrive(message: Known): void {
		message.arrival = ++this.arrivals;
	}

	#expire(message: Known): void {
		message.fate = "expired";
	}

	fail(message: Known, now: number, delayMs = BACKOFF_MS): void {
		message.fate = message.attempts >= MAX_DELIVERIES ? "dead" : "waiting";
		message.notBefore = now + delayMs;
	}

	/** Which messages may be delivered at `now`. */
	ready(now: number): Known[] {
		const open = this.messages.filter(
			({ fate, arrival }) => arrival > 0 && (fate === "waiting" || fate === "delivered"),
		);
		const blocks = (other: Known, message: Known) =>
			other.key === message.key && other.source === message.source && other.arrival < message.arrival;
		return open.filter(
			(message) =>
				message.fate === "waiting" &&
				message.notBefore <= now &&
				(message.key === "" || !open.some((other) => blocks(other, message))),
		);
	}

	delivered(): Known[] {
		return this.messages.filter(({ fate }) => fate === "delivered");
	}
}

interface Draft {
	readonly source: "alice" | "carol";
	readonly key: string;
	readonly priority: 0 | 1 | 2;
	readonly ttlMs: number | undefined;
	readonly inMs: number;
}

type Step =
	/** What is sent at once is stored in blocks. */
	| { readonly kind: "send"; readonly drafts: readonly Draft[] }
	| { readonly kind: "deliver" | "restart" | "reconnect" }
	| { readonly kind: "acknowledge" | "refuse" | "terminate"; readonly pick: number }
	| { readonly kind: "wait"; readonly ms: number };

const draft: fc.Arbitrary<Draft> = fc.record({
	source: fc.constantFrom("alice", "carol"),
	key: fc.constantFrom("", "", "k", "l"),
	priority: fc.constantFrom<0 | 1 | 2>(0, 1, 2),
	ttlMs: fc.option(fc.constantFrom(1_500, 7_500), { nil: undefined, freq: 3 }),
	inMs: fc.constantFrom(0, 0, 0, 2_700),
});
const step: fc.Arbitrary<Step> = fc.oneof(
	{
		weight: 6,
		arbitrary: fc.record({
			kind: fc.constant("send" as const),
			drafts: fc.array(draft, { minLength: 1, maxLength: 8 }),
		}),
	},
	{ weight: 5, arbitrary: fc.record({ kind: fc.constant("deliver" as const) }) },
	{
		weight: 6,
		arbitrary: fc.record({
			kind: fc.constantFrom("acknowledge" as const, "acknowledge" as const, "refuse" as const, "terminate" as const),
			pick: fc.nat(100),
		}),
	},
	{ weight: 2, arbitrary: fc.record({ kind: fc.constant("wait" as const), ms: fc.constantFrom(400, 1_300, 4_900) }) },
	{ weight: 1, arbitrary: fc.record({ kind: fc.constantFrom("restart" as const, "reconnect" as const) }) },
);

const PRIORITIES = [Priority.HIGH, Priority.NORMAL, Priority.LOW];
/** So long that a few make a block that is worth writing anew. */
const payloadOf = (id: string) => ({ body: { case: "json" as const, value: JSON.stringify(id.padEnd(2_000, "x")) } });
const duration = (ms: number) => ({ seconds: BigInt(Math.floor(ms / 1000)), nanos: (ms % 1000) * 1e6 });

/** A hub whose store takes its time, the model beside it, and one recipient that takes frames when it is told to. */
class Pair {
	readonly clock = new FakeClock();
	readonly kv = unhurriedKv(new VolatileKvStore(this.clock));
	readonly model = new NaiveHub();
	rig = this.#start();
	bob: AttachPeer | undefined;
	made = 0;

	async run(step: Step): Promise<void> {
		switch (step.kind) {
			case "send":
				return this.#send(step.drafts);
			case "deliver":
				return this.deliver();
			case "wait":
				return this.wait(step.ms);
			case "reconnect":
				return this.#reconnect();
			case "restart":
				return this.#restart();
			default:
				return this.#answer(step.kind, step.pick);
		}
	}

	async attach(): Promise<void> {
		const policy = { ackWait: duration(ACK_WAIT_MS), backoff: [duration(BACKOFF_MS)], maxDeliveries: MAX_DELIVERIES };
		this.bob = await this.rig.attach("bob", { maxInFlight: CREDIT, policy });
	}

	/** Blocks are written anew as soon as anything of them is settled and they are old enough, and payloads are read back. */
	#start(): MessagingRig {
		const storage = { sparsePatienceMs: SPARSE_PATIENCE_MS, cacheBytes: 1_000 };
		return new MessagingRig({ clock: this.clock, kv: this.kv, storage });
	}

	async #send(drafts: readonly Draft[]): Promise<void> {
		const now = this.clock.now();
		const sends = drafts.map((draft) => this.#sendOne(draft, now));
		await Promise.all(sends);
	}

	#sendOne({ source, key, priority, ttlMs, inMs }: Draft, now: number): Promise<unknown> {
		const id = `m-${++this.made}`;
		const deliverAt = now + inMs;
		const sent = this.rig.send(source, {
			to: { target: { case: "pluginId", value: "bob" } },
			message: {
				id,
				type: "job",
				orderingKey: key,
				priority: PRIORITIES[priority]!,
				...(ttlMs !== undefined && { ttl: duration(ttlMs) }),
				...(inMs > 0 && { deliverAt: timestampFromMs(deliverAt) }),
				payload: payloadOf(id),
			},
		});
		const expiresAt = ttlMs === undefined ? Number.POSITIVE_INFINITY : deliverAt + ttlMs;
		const unknown = { arrival: 0, notBefore: 0, attempts: 0, lateAt: 0, deliveryId: "", fate: "waiting" as const };
		this.model.send({ id, source, key, priority, expiresAt, deliverAt, ...unknown }, now);
		return sent;
	}

	/** Whatever comes is something that may come now, in the right attempt, and as much of it as there is room for. */
	async deliver(): Promise<void> {
		if (this.bob === undefined) await this.attach();
		const bob = this.bob!;
		const now = this.clock.now();
		while (true) {
			const room = CREDIT - this.model.delivered().length;
			const expected = Math.min(room, this.model.ready(now).length);
			if (expected <= 0) {
				return;
			}
			const deliveries = await bob.deliveries();
			for (const { deliveryId, message } of deliveries) {
				const ready = this.model.ready(now);
				const known = ready.find(({ id }) => id === message!.id);
				if (known === undefined) throw new Error(`${message!.id} came and may not`);
				const firstOfSender = ready
					.filter(({ source, priority }) => source === known.source && priority === known.priority)
					.reduce((first, other) => (other.arrival < first.arrival ? other : first));
				expect(known.id).toBe(firstOfSender.id);
				expect(message!.attempt).toBe(++known.attempts);
				expect(message!.payload!.body).toEqual(payloadOf(known.id).body);
				known.fate = "delivered";
				known.lateAt = now + ACK_WAIT_MS;
				known.deliveryId = deliveryId;
			}
			expect(this.model.delivered().length).toBeLessThanOrEqual(CREDIT);
		}
	}

	async wait(ms: number): Promise<void> {
		await this.clock.advance(ms);
		await settled();
		this.model.pass(this.clock.now());
	}

	async #answer(kind: "acknowledge" | "refuse" | "terminate", pick: number): Promise<void> {
		const delivered = this.model.delivered();
		const known = delivered[pick % Math.max(1, delivered.length)];
		if (known === undefined) return;
		if (kind === "acknowledge") {
			this.bob!.acknowledge(known.deliveryId);
			known.fate = "acknowledged";
		} else if (kind === "refuse") {
			this.bob!.refuse(known.deliveryId);
			this.model.fail(known, this.clock.now(), 0);
		} else {
			this.bob!.terminate(known.deliveryId, "no");
			known.fate = "dead";
		}
		await this.wait(0);
	}

	/** What was delivered has failed. */
	async #reconnect(): Promise<void> {
		this.bob?.vanish();
		this.bob = undefined;
		await settled();
		for (const known of this.model.delivered()) this.model.fail(known, this.clock.now());
		await this.wait(0);
	}

	/** The hub stops in order: what was delivered has not failed, and does not count. */
	async #restart(): Promise<void> {
		this.rig[Symbol.dispose]();
		this.bob = undefined;
		await settled();
		for (const known of this.model.delivered()) {
			known.fate = "waiting";
			known.attempts--;
		}
		this.rig = this.#start();
		await this.wait(0);
	}

	/** The ids of what the store has as not settled, whatever else lies in the same blocks. */
	stored(): string[] {
		const { entries } = this.kv.range({ start: "mailbox/", end: "mailbox0", limit: 1000 });
		const values = new Map(entries.map(({ key, value }) => [key, value]));
		const ids: string[] = [];
		for (const [key, value] of values) {
			if (key.includes(".")) continue;
			const isSettled = decodePlaces(values.get(`${key}.s`));
			const left = decodeBlock(value).filter((_, place) => !isSettled(place));
			expect(left.length).toBeGreaterThan(0);
			ids.push(...left.map(({ id }) => id));
		}
		return ids.sort();
	}

	async verify(): Promise<void> {
		const { model, rig } = this;
		const open = model.messages.filter(({ fate }) => fate === "waiting" || fate === "delivered");
		expect(rig.router.store.size).toBe(open.length);
		expect(rig.router.backlog.messages).toBe(model.messages.filter(({ fate }) => fate === "waiting").length);
		const { deadLetters } = await rig.deadLetters("listDeadLetters", "bob", {});
		const dead = model.messages.filter(({ fate }) => fate === "dead");
		expect(deadLetters.map(({ message }) => message!.id).sort()).toEqual(dead.map(({ id }) => id).sort());
		expect(this.stored()).toEqual(open.map(({ id }) => id).sort());
	}
}

test("durable messages do what a flat list does, through failures, waits and restarts", async () => {
	await fc.assert(
		fc.asyncProperty(fc.array(step, { maxLength: 80, size: "max" }), async (steps) => {
			const pair = new Pair();
			try {
				for (const step of steps) {
					// Frames that wait are taken first, so that both sides know the same of what is delivered.
					if (step.kind !== "send") await pair.deliver();
					await pair.run(step);
					if (step.kind !== "send") await pair.deliver();
				}
				await pair.deliver();
				await pair.verify();
			} finally {
				pair.rig[Symbol.dispose]();
			}
		}),
		{ numRuns: 300 },
	);
}, 60_000);

test("of a backlog each priority gets its share in the order of its weights, after a restart too", async () => {
	const pair = new Pair();
	for (let i = 0; i < 60; i++) {
		for (const priority of [0, 1, 2] as const) {
			await pair.run({ kind: "send", drafts: [{ source: "alice", key: "", priority, ttlMs: undefined, inMs: 0 }] });
		}
	}
	await pair.run({ kind: "restart" });
	const bob = await pair.rig.attach("bob", { maxInFlight: 24 });
	const served = [0, 0, 0];
	for (const { message } of await bob.deliveries()) served[PRIORITIES.indexOf(message!.priority!)]!++;
	expect(served).toEqual(WEIGHTS.map((weight) => weight * 2));
	bob.vanish();
	pair.rig[Symbol.dispose]();
});
