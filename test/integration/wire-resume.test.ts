import { randomInt } from "node:crypto";
import { expect, it } from "vitest";
import type { Event } from "#gen/qirvo/hub/v1/event_service_pb.js";
import type { Position } from "#gen/qirvo/hub/v1/payload_pb.js";
import { failureOf } from "../harness/failure.ts";
import { Feed } from "../harness/feed.ts";
import { type Clients, describeHubs, type TestHub } from "../harness/hub.ts";
import { Outbox } from "../harness/outbox.ts";
import { randomFrom, turns } from "../harness/random-from.ts";

/** Larger runs: set these. */
const EVENTS = Number(process.env.RESUME_EVENTS ?? 4000);
const SUBSCRIBERS = Number(process.env.RESUME_SUBSCRIBERS ?? 6);
const SEED = Number(process.env.RESUME_SEED ?? randomInt(2 ** 31));

const WRITERS = 2;

interface Reader {
	readonly patterns: string[];
	readonly filter: string;
	readonly priority: number;
	wants(event: { readonly type: string; readonly subject: string }): boolean;
}

const READERS: readonly Reader[] = [
	{ patterns: ["n.**"], filter: "", priority: 0, wants: () => true },
	{ patterns: ["n:odd", "n.end"], filter: "", priority: 5, wants: ({ type }) => type !== "n.even" },
	{
		patterns: ["n.*"],
		filter: 'event.subject.endsWith("7") || event.type == "n.end"',
		priority: -5,
		wants: ({ type, subject }) => subject.endsWith("7") || type === "n.end",
	},
];

/** Publishes numbered events in batches of any size, some of them in flight. */
async function publish(writer: Clients, name: string, random: (below: number) => number): Promise<void> {
	const batches = new Outbox<{ batchId: bigint; events: { type: string; subject: string }[] }>();
	const answers = new Feed(writer.events.emitStream(batches));
	let sent = 0;
	for (let next = 0; next < EVENTS / WRITERS; ) {
		const size = Math.min(1 + random(40), EVENTS / WRITERS - next);
		const events = Array.from({ length: size }, () => ({
			type: next % 2 ? "n.odd" : "n.even",
			subject: `${name}/${next++}`,
		}));
		batches.push({ batchId: BigInt(sent++), events });
		await answers.when(() => answers.all("acknowledgement").length >= sent - 8);
		await turns(random(6));
	}
	batches.end();
	await answers.ended;
	expect(answers.failure).toBeUndefined();
}

/** Follows the events to `n.end`, leaving and coming back again and again, and sometimes dawdling. */
async function follow(hub: TestHub, token: string, reader: Reader, random: (below: number) => number) {
	const { patterns, filter, priority } = reader;
	const seen: Event[] = [];
	let clients = hub.connect(token);
	let after: Position | undefined;
	let disconnects = 0;
	let live = 0;
	while (seen.at(-1)?.type !== "n.end") {
		const leave = new AbortController();
		let frames = 1 + random(12);
		const pace = random(3) === 0 ? 40 : 3;
		const start = after ? { case: "after" as const, value: after } : { case: "everything" as const, value: true };
		const run = async () => {
			const stream = clients.events.subscribe(
				{ patterns, filter, priority, start: { from: start } },
				{ signal: leave.signal },
			);
			for await (const { position, frame } of stream) {
				after = position ?? after;
				if (frame.case === "batch") {
					seen.push(...frame.value.events);
					live += frame.value.events.filter(({ isReplay }) => !isReplay).length;
				}
				if (seen.at(-1)?.type === "n.end") return;
				if (--frames === 0) {
					disconnects++;
					if (random(2) === 0) {
						leave.abort();
					} else {
						clients[Symbol.dispose]();
						clients = hub.connect(token);
					}
				}
				await turns(random(pace));
			}
			throw new Error("the stream ended by itself");
		};
		await run().catch(async (error: unknown) => {
			const failure = await failureOf(Promise.reject(error));
			// What the client itself says of its broken connection; the hub ends none of these.
			if (frames > 0 || failure.reason !== undefined) throw error;
		});
		leave.abort();
	}
	return { seen, disconnects, live };
}

describeHubs("subscribers that come and go", (start) => {
	it(`miss nothing, see nothing twice and see all in order (seed ${SEED})`, async () => {
		await using hub = await start();
		const random = randomFrom(SEED);
		const writers = await Promise.all(Array.from({ length: WRITERS }, (_, index) => hub.enrol(`writer${index}`)));
		const { token } = await hub.enrol("reader");
		const following = Promise.all(
			Array.from({ length: SUBSCRIBERS }, async (_, index) => {
				const reader = READERS[index % READERS.length]!;
				return { reader, ...(await follow(hub, token, reader, randomFrom(random(2 ** 31)))) };
			}),
		);
		const publishing = (async () => {
			await Promise.all(writers.map((writer, index) => publish(writer, `w${index}`, randomFrom(random(2 ** 31)))));
			await writers[0]!.events.emit({ event: { type: "n.end" } });
		})();
		const [followed] = await Promise.all([following, publishing]);

		const log: Event[] = [];
		for (let pageToken = "", more = true; more; more = pageToken !== "") {
			const page = await hub.operator.events.listEvents({ patterns: ["n.*"], pageSize: 1000, pageToken });
			log.push(...page.events);
			pageToken = page.nextPageToken;
		}
		expect(log).toHaveLength(EVENTS + 1);
		const line = ({ sequence, type, subject }: Event) => `${sequence} ${type} ${subject}`;
		for (const { reader, seen } of followed) {
			expect(seen.map(line)).toEqual(log.filter((event) => reader.wants(event)).map(line));
		}
		// The run was worth its name: there were cuts, and both sides of the hand-over were seen.
		expect(followed.reduce((sum, { disconnects }) => sum + disconnects, 0)).toBeGreaterThan(SUBSCRIBERS);
		expect(followed.some(({ live }) => live > 0)).toBe(true);
		expect(followed.some(({ live, seen }) => live < seen.length)).toBe(true);
	});
});
