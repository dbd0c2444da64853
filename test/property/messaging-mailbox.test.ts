import fc from "fast-check";
import { expect, test } from "vitest";
import type { PriorityClass } from "../../src/messaging/message-draft.ts";
import { QueuedMessage } from "../../src/messaging/queued-message.ts";
import { messageCost, PRIORITY_WEIGHTS, RecipientMailbox } from "../../src/messaging/recipient-mailbox.ts";

const BOUNDS = { maxMessages: 12, maxBytes: 6000 };

/** What the mailbox promises, over one flat list and nothing clever. */
class NaiveMailbox {
	readonly waiting: { readonly message: QueuedMessage; held: boolean }[] = [];
	readonly underway = new Set<QueuedMessage>();
	/** RM-2: senders in the order of their turns, for each priority. */
	readonly rounds: string[][] = PRIORITY_WEIGHTS.map(() => []);
	turns: number[] = [...PRIORITY_WEIGHTS];

	offer(message: QueuedMessage): boolean {
		if (this.waiting.length >= BOUNDS.maxMessages) return false;
		const bytes = this.waiting.reduce((sum, { message }) => sum + messageCost(message), 0);
		if (this.waiting.length > 0 && bytes + messageCost(message) > BOUNDS.maxBytes) return false;
		this.waiting.push({ message, held: false });
		this.updateRounds();
		return true;
	}

	/** RM-4: the one of its key that arrived first, and that none of its key is under way or held back. */
	ready(): QueuedMessage[] {
		const all = this.waiting.map(({ message }) => message);
		return this.waiting
			.filter(({ message, held }) => !held && !(message.orderingKey !== "" && this.blocked(message, all)))
			.map(({ message }) => message)
			.sort((a, b) => a.sequence - b.sequence);
	}

	blocked(message: QueuedMessage, waiting: QueuedMessage[]): boolean {
		const sameKey = (other: QueuedMessage) =>
			other !== message && other.source === message.source && other.orderingKey === message.orderingKey;
		return (
			waiting.some((other) => sameKey(other) && other.sequence < message.sequence) || [...this.underway].some(sameKey)
		);
	}

	take(): QueuedMessage | undefined {
		const ready = this.ready();
		if (ready.length === 0) return undefined;
		const has = (priority: number) => ready.some((message) => message.priority === priority);
		const classes = [0, 1, 2].filter(has);
		if (classes.every((priority) => this.turns[priority] === 0)) this.turns = [...PRIORITY_WEIGHTS];
		const priority = classes.find((priority) => this.turns[priority]! > 0)!;
		this.turns[priority]!--;
		const source = this.rounds[priority]!.shift()!;
		const message = ready.find((message) => message.priority === priority && message.source === source)!;
		this.drop(message);
		this.underway.add(message);
		this.updateRounds(priority, source);
		return message;
	}

	drop(message: QueuedMessage): void {
		const at = this.waiting.findIndex((entry) => entry.message === message);
		this.waiting.splice(at, 1);
	}

	/** Senders without anything ready leave the round; new ones join at its end. */
	updateRounds(served?: number, source?: string): void {
		const ready = this.ready();
		for (const [priority, round] of this.rounds.entries()) {
			const senders = new Set(ready.filter((message) => message.priority === priority).map(({ source }) => source));
			const kept = round.filter((sender) => senders.has(sender));
			if (priority === served && source !== undefined && senders.has(source)) kept.push(source);
			for (const sender of senders) if (!kept.includes(sender)) kept.push(sender);
			this.rounds[priority] = kept;
		}
	}
}

interface Spec {
	readonly source: string;
	readonly orderingKey: string;
	readonly priority: PriorityClass;
	readonly bytes: number;
}

type Step =
	| { readonly kind: "offer"; readonly spec: Spec }
	| { readonly kind: "take" }
	| { readonly kind: "release" | "putBack" | "postpone" | "resume" | "remove"; readonly pick: number };

const spec: fc.Arbitrary<Spec> = fc.record({
	source: fc.constantFrom("a", "b", "c"),
	orderingKey: fc.constantFrom("", "", "k", "l"),
	priority: fc.constantFrom<PriorityClass>(0, 1, 2),
	bytes: fc.constantFrom(10, 100, 2000),
});
const step: fc.Arbitrary<Step> = fc.oneof(
	{ weight: 5, arbitrary: fc.record({ kind: fc.constant("offer" as const), spec }) },
	{ weight: 4, arbitrary: fc.record({ kind: fc.constant("take" as const) }) },
	{
		weight: 5,
		arbitrary: fc.record({
			kind: fc.constantFrom("release", "release", "putBack", "postpone", "resume", "remove"),
			pick: fc.nat(100),
		}),
	},
);

test("the mailbox does what a flat list does", () => {
	fc.assert(
		fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
			const mailbox = new RecipientMailbox(BOUNDS);
			const model = new NaiveMailbox();
			let made = 0;
			for (const step of steps) {
				if (step.kind === "offer") {
					const message = messageOf(step.spec, `m-${++made}`);
					const taken = offer(mailbox, message);
					expect(model.offer(message)).toBe(taken);
				} else if (step.kind === "take") {
					expect(mailbox.take()?.id).toBe(model.take()?.id);
				} else {
					apply(step.kind, step.pick, mailbox, model);
				}
				expect(mailbox.size).toBe(model.waiting.length);
				expect(mailbox.bytes).toBe(model.waiting.reduce((sum, { message }) => sum + messageCost(message), 0));
			}
			empty(mailbox, model);
		}),
		{ numRuns: 500 },
	);
});

function apply(
	kind: "release" | "putBack" | "postpone" | "resume" | "remove",
	pick: number,
	mailbox: RecipientMailbox,
	model: NaiveMailbox,
) {
	if (kind === "remove" || kind === "resume") {
		const entry = model.waiting[pick % Math.max(1, model.waiting.length)];
		if (entry === undefined) return;
		if (kind === "resume") {
			mailbox.resume(entry.message);
			entry.held = false;
		} else {
			expect(mailbox.remove(entry.message)).toBe(true);
			expect(mailbox.remove(entry.message)).toBe(false);
			model.drop(entry.message);
		}
	} else {
		const message = [...model.underway][pick % Math.max(1, model.underway.size)];
		if (message === undefined) return;
		mailbox[kind](message);
		model.underway.delete(message);
		if (kind !== "release") model.waiting.push({ message, held: kind === "postpone" });
	}
	model.updateRounds();
}

/** RM-6: whatever happened, nothing is left once everything is settled; and all of it comes out. */
function empty(mailbox: RecipientMailbox, model: NaiveMailbox): void {
	for (const message of model.underway) mailbox.release(message);
	const left = new Set(model.waiting.map(({ message }) => message));
	for (const message of [...mailbox.waiting()]) {
		expect(mailbox.remove(message)).toBe(true);
		expect(left.delete(message)).toBe(true);
	}
	expect(left.size).toBe(0);
	expect([mailbox.size, mailbox.bytes]).toEqual([0, 0]);
	expect(mailbox.remembered).toEqual({ senders: 0, orderingKeys: 0 });
}

test("a lone sender cannot make another wait for more than one of its messages", () => {
	const mailbox = new RecipientMailbox();
	for (let i = 0; i < 5000; i++)
		offer(mailbox, messageOf({ source: "loud", orderingKey: "", priority: 1, bytes: 10 }, `l-${i}`));
	offer(mailbox, messageOf({ source: "quiet", orderingKey: "", priority: 1, bytes: 10 }, "q"));
	expect([mailbox.take()!.source, mailbox.take()!.source]).toEqual(["loud", "quiet"]);
});

test("a sender keeps its turn where its next message is taken out and another of the key may go", () => {
	const mailbox = new RecipientMailbox();
	const [first, second] = ["m-1", "m-2"].map((id) =>
		messageOf({ source: "a", orderingKey: "k", priority: 0, bytes: 10 }, id),
	) as [QueuedMessage, QueuedMessage];
	for (const message of [first, second]) offer(mailbox, message);
	offer(mailbox, messageOf({ source: "b", orderingKey: "", priority: 0, bytes: 10 }, "m-3"));
	expect(mailbox.remove(first)).toBe(true);
	expect([mailbox.take()!.id, mailbox.take()!.id]).toEqual(["m-2", "m-3"]);
});

test("the low priority gets its share under a flood of the high one", () => {
	const mailbox = new RecipientMailbox();
	for (let i = 0; i < 2400; i++) {
		for (const priority of [0, 1, 2] as const) {
			offer(mailbox, messageOf({ source: "a", orderingKey: "", priority, bytes: 10 }, `${priority}-${i}`));
		}
	}
	const served = [0, 0, 0];
	for (let i = 0; i < 1200; i++) served[mailbox.take()!.priority]!++;
	expect(served).toEqual([800, 300, 100]);
});

function messageOf({ source, orderingKey, priority, bytes }: Spec, id: string): QueuedMessage {
	return new QueuedMessage({
		id,
		source,
		priority,
		orderingKey,
		bytes: new Uint8Array(bytes),
		size: bytes,
		expiresAt: Number.POSITIVE_INFINITY,
		request: undefined,
		stored: undefined,
	});
}

function offer(mailbox: RecipientMailbox, message: QueuedMessage): boolean {
	const hasRoom = mailbox.hasRoom(message);
	if (hasRoom) mailbox.add(message);
	return hasRoom;
}
