import fc from "fast-check";
import { expect, test } from "vitest";
import { Durability, Priority } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { seconds } from "../harness/durable-send.ts";
import type { AttachPeer } from "../harness/messaging-peers.ts";
import { MessagingRig } from "../harness/messaging-rig.ts";
import { refusal } from "../harness/refusal.ts";
import { settled } from "../harness/settled.ts";

const INSTANCES = 3;
const ACK_WAIT_MS = 4_000;
const BACKOFF_MS = [500, 2_100];
const MAX_DELIVERIES = 3;
const MAX_TRANSIENT_DELIVERIES = 5;
const CREDITS = [2, 1, 3];
const PRIORITIES = [Priority.HIGH, Priority.NORMAL, Priority.LOW];
const POLICY = {
	ackWait: seconds(ACK_WAIT_MS / 1000),
	backoff: BACKOFF_MS.map((ms) => seconds(ms / 1000)),
	maxDeliveries: MAX_DELIVERIES,
};

interface Draft {
	readonly isDurable: boolean;
	readonly source: "alice" | "carol" | "dave";
	readonly key: string;
	readonly priority: number;
	readonly ttlMs: number | undefined;
}

/** A message that is not settled. */
interface Known extends Draft {
	readonly id: string;
	readonly expiresAt: number;
	notBefore: number;
	attempts: number;
	/** The instance that has it; undefined: it waits. */
	holder: number | undefined;
	deliveryId: string;
	lateAt: number;
}

/** One mailbox and the instances that compete for it, as a list in the order of arrival; time is told to it. */
class NaiveRecipient {
	readonly open: Known[] = [];
	readonly dead: string[] = [];
	/** Of each priority and sender that could be served all the time since: whom of the others it saw served. */
	readonly #passedBy = new Map<string, Set<string>>();

	remove(known: Known): void {
		this.open.splice(this.open.indexOf(known), 1);
	}

	heldBy(instance: number): Known[] {
		return this.open.filter(({ holder }) => holder === instance);
	}

	/** What may be delivered at `now`, oldest first: of a sender's key only what no other is before. */
	ready(now: number): Known[] {
		return this.open.filter(
			(known, at) =>
				known.holder === undefined &&
				known.notBefore <= now &&
				!(
					known.key !== "" &&
					this.open.some((other, before) => before < at && other.key === known.key && other.source === known.source)
				),
		);
	}

	/** Sent is served: nobody else who could have been served as long sees the same sender served twice. */
	serve({ priority, source }: Known, now: number): void {
		for (const other of new Set(this.ready(now).map((known) => `${known.priority} ${known.source}`))) {
			if (!other.startsWith(`${priority} `) || other === `${priority} ${source}`) continue;
			const seen = this.#passedBy.get(other) ?? new Set();
			if (seen.has(source)) throw new Error(`${other} sees ${source} served again`);
			this.#passedBy.set(other, seen.add(source));
		}
		this.#passedBy.delete(`${priority} ${source}`);
	}

	/** To be called whenever something may have become unready. */
	forgetUnready(now: number): void {
		const ready = new Set(this.ready(now).map(({ priority, source }) => `${priority} ${source}`));
		for (const key of this.#passedBy.keys()) if (!ready.has(key)) this.#passedBy.delete(key);
	}

	/** `delayMs` undefined: as the backoff says. */
	fail(known: Known, now: number, delayMs?: number): void {
		known.holder = undefined;
		if (known.attempts >= (known.isDurable ? MAX_DELIVERIES : MAX_TRANSIENT_DELIVERIES)) {
			this.park(known);
			return;
		}
		const backoffMs = known.isDurable ? BACKOFF_MS[Math.min(known.attempts, BACKOFF_MS.length) - 1]! : 0;
		known.notBefore = now + (delayMs ?? backoffMs);
	}

	/** What is durable becomes a dead letter, the rest is dropped. */
	park(known: Known): void {
		this.remove(known);
		if (known.isDurable) this.dead.push(known.id);
	}

	leave(instance: number, now: number, isLast: boolean): void {
		for (const known of this.heldBy(instance)) {
			if (known.isDurable) this.fail(known, now);
			else this.remove(known);
		}
		if (isLast) for (const known of this.open.filter(({ isDurable }) => !isDurable)) this.remove(known);
	}

	/** Everything that falls due up to `now`, in the order in which it does. */
	pass(now: number): void {
		const dueOf = ({ holder, lateAt, expiresAt, isDurable }: Known) => {
			if (holder === undefined) return expiresAt;
			return isDurable ? lateAt : Number.POSITIVE_INFINITY;
		};
		while (true) {
			const next = [...this.open].sort((a, b) => dueOf(a) - dueOf(b))[0];
			if (next === undefined || dueOf(next) > now) break;
			const at = dueOf(next);
			if (next.holder === undefined) this.remove(next);
			else this.fail(next, at);
			this.forgetUnready(at);
		}
	}
}

type Step =
	| { readonly kind: "send"; readonly draft: Draft }
	| { readonly kind: "acknowledge" | "terminate" | "inProgress"; readonly pick: number }
	| { readonly kind: "negative"; readonly pick: number; readonly delayMs: number | undefined }
	| { readonly kind: "credit"; readonly instance: number; readonly credit: number }
	| { readonly kind: "leave"; readonly instance: number }
	| { readonly kind: "join"; readonly instance: number }
	| { readonly kind: "wait"; readonly ms: number };

const pick = fc.nat(100);
const instance = fc.nat(INSTANCES - 1);
const step: fc.Arbitrary<Step> = fc.oneof(
	{
		weight: 8,
		arbitrary: fc.record({
			kind: fc.constant("send" as const),
			draft: fc.record({
				isDurable: fc.boolean(),
				source: fc.constantFrom("alice", "carol", "dave"),
				key: fc.constantFrom("", "", "k", "l"),
				priority: fc.nat(2),
				ttlMs: fc.option(fc.constantFrom(1_700, 7_300), { nil: undefined, freq: 3 }),
			}),
		}),
	},
	{
		weight: 6,
		arbitrary: fc.record({ kind: fc.constantFrom("acknowledge", "acknowledge", "terminate", "inProgress"), pick }),
	},
	{
		weight: 3,
		arbitrary: fc.record({
			kind: fc.constant("negative" as const),
			pick,
			delayMs: fc.constantFrom(undefined, undefined, 0, 900, 3_300),
		}),
	},
	{ weight: 1, arbitrary: fc.record({ kind: fc.constant("credit" as const), instance, credit: fc.nat(4) }) },
	{ weight: 1, arbitrary: fc.record({ kind: fc.constant("leave" as const), instance }) },
	{ weight: 1, arbitrary: fc.record({ kind: fc.constant("join" as const), instance }) },
	{
		weight: 2,
		arbitrary: fc.record({ kind: fc.constant("wait" as const), ms: fc.constantFrom(100, 600, 1_900, 4_100) }),
	},
);

/** A hub and the model beside it; an instance takes a frame only when it is told to. */
class Pair {
	readonly rig = new MessagingRig();
	readonly model = new NaiveRecipient();
	readonly #peers: (AttachPeer | undefined)[] = Array.from({ length: INSTANCES }, () => undefined);
	readonly #credits = [...CREDITS];
	#made = 0;

	async run(step: Step): Promise<void> {
		const { model } = this;
		if (step.kind === "send") {
			await this.#send(step.draft);
		} else if (step.kind === "wait") {
			await this.rig.clock.advance(step.ms);
		} else if (step.kind === "credit") {
			this.#credits[step.instance] = step.credit;
			this.#peers[step.instance]?.up({ frame: { case: "credit", value: { maxInFlight: step.credit } } });
		} else if (step.kind === "leave") {
			const peer = this.#peers[step.instance];
			this.#peers[step.instance] = undefined;
			peer?.vanish();
			if (peer !== undefined) model.leave(step.instance, this.#now, this.#attached.length === 0);
		} else if (step.kind === "join") {
			await this.join(step.instance);
		} else {
			const held = model.open.filter(({ holder }) => holder !== undefined);
			const known = held[step.pick % Math.max(1, held.length)];
			if (known !== undefined) this.#settle(known, step);
		}
		await settled();
		await this.rig.clock.advance(0);
		model.pass(this.#now);
		model.forgetUnready(this.#now);
		await this.#deliver();
	}

	async join(instance: number): Promise<void> {
		if (this.#peers[instance] !== undefined) return;
		this.#credits[instance] = CREDITS[instance]!;
		this.#peers[instance] = await this.rig.attach("bob", { maxInFlight: CREDITS[instance]!, policy: POLICY });
	}

	get #now(): number {
		return this.rig.clock.now();
	}

	get #attached(): AttachPeer[] {
		return this.#peers.filter((peer) => peer !== undefined);
	}

	async #send(draft: Draft): Promise<void> {
		const { isDurable, source, key, priority, ttlMs } = draft;
		const id = `m-${++this.#made}`;
		const sending = this.rig.send(source, {
			to: { target: { case: "pluginId", value: "bob" } },
			message: {
				id,
				type: "job",
				orderingKey: key,
				priority: PRIORITIES[priority]!,
				...(ttlMs !== undefined && { ttl: seconds(ttlMs / 1000) }),
			},
			durability: isDurable ? Durability.DURABLE : Durability.TRANSIENT,
		});
		if (!isDurable && this.#attached.length === 0) {
			expect((await refusal(sending)).reason).toBe("RECIPIENT_UNAVAILABLE");
			return;
		}
		await sending;
		const expiresAt = ttlMs === undefined ? Number.POSITIVE_INFINITY : this.#now + ttlMs;
		const unheld = { notBefore: 0, attempts: 0, holder: undefined, deliveryId: "", lateAt: 0 };
		this.model.open.push({ ...draft, ...unheld, id, expiresAt });
	}

	#settle(known: Known, step: Extract<Step, { readonly pick: number }>): void {
		const { deliveryId } = known;
		const peer = this.#peers[known.holder!]!;
		if (step.kind === "acknowledge") {
			peer.acknowledge(deliveryId);
			this.model.remove(known);
		} else if (step.kind === "terminate") {
			peer.terminate(deliveryId, "no");
			this.model.park(known);
		} else if (step.kind === "inProgress") {
			const outcome = { case: "inProgress", value: true } as const;
			peer.up({ frame: { case: "settlement", value: { deliveries: [{ deliveryId, outcome }] } } });
			known.lateAt = this.#now + ACK_WAIT_MS;
		} else if (step.kind === "negative") {
			const { delayMs } = step;
			const value = delayMs === undefined ? {} : { delay: seconds(delayMs / 1000) };
			const outcome = { case: "negative", value } as const;
			peer.up({ frame: { case: "settlement", value: { deliveries: [{ deliveryId, outcome }] } } });
			this.model.fail(known, this.#now, delayMs);
		}
	}

	/** Every instance gets as much as it has credit for, and each delivery is one that may come then. */
	async #deliver(): Promise<void> {
		for (const [instance, peer] of this.#peers.entries()) {
			if (peer === undefined) continue;
			const { model } = this;
			const room = () => this.#credits[instance]! - model.heldBy(instance).length;
			while (room() > 0 && model.ready(this.#now).length > 0) {
				for (const { deliveryId, message } of await peer.deliveries()) this.#took(instance, deliveryId, message!);
				expect(room()).toBeGreaterThanOrEqual(0);
			}
		}
	}

	#took(instance: number, deliveryId: string, message: { readonly id: string; readonly attempt: number }): void {
		const ready = this.model.ready(this.#now);
		const known = ready.find(({ id }) => id === message.id);
		if (known === undefined) throw new Error(`${message.id} came and may not`);
		const first = ready.find(({ source, priority }) => source === known.source && priority === known.priority);
		expect(message.id).toBe(first!.id);
		expect(message.attempt).toBe(++known.attempts);
		this.model.serve(known, this.#now);
		known.holder = instance;
		known.deliveryId = deliveryId;
		known.lateAt = this.#now + ACK_WAIT_MS;
		this.model.forgetUnready(this.#now);
	}

	async verify(): Promise<void> {
		const { model, rig } = this;
		expect(rig.router.store.size).toBe(model.open.filter(({ isDurable }) => isDurable).length);
		expect(rig.router.backlog.messages).toBe(model.open.filter(({ holder }) => holder === undefined).length);
		const { deadLetters } = await rig.deadLetters("listDeadLetters", "bob", {});
		expect(deadLetters.map(({ message }) => message!.id).sort()).toEqual([...model.dead].sort());
		for (let instance = 0; instance < INSTANCES; instance++) await this.run({ kind: "join", instance });
		for (let instance = 0; instance < INSTANCES; instance++) await this.run({ kind: "credit", instance, credit: 4 });
		await this.run({ kind: "wait", ms: 10_000 });
		while (model.open.length > 0) {
			await this.run({ kind: "acknowledge", pick: 0 });
			if (model.open.every(({ holder }) => holder === undefined)) await this.run({ kind: "wait", ms: 10_000 });
		}
		for (const peer of this.#attached) peer.vanish();
		await settled();
		expect(rig.router.memory.used).toBe(0);
		expect(rig.held).toMatchObject({ recipients: 0, deadlines: 0, streams: 0 });
	}
}

test("transient and durable messages reach competing instances as a flat list says", async () => {
	await fc.assert(
		fc.asyncProperty(fc.array(step, { maxLength: 80, size: "max" }), async (steps) => {
			const pair = new Pair();
			try {
				for (const id of ["dave"]) pair.rig.plugins.set(id, "present");
				for (let instance = 0; instance < 2; instance++) await pair.join(instance);
				for (const step of steps) await pair.run(step);
				await pair.verify();
			} finally {
				pair.rig[Symbol.dispose]();
			}
		}),
		{ numRuns: 300 },
	);
}, 60_000);
