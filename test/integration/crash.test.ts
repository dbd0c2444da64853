import { join } from "node:path";
import { expect, test } from "vitest";
import type { Clients } from "../harness/hub.ts";
import { ALL_GRANTS, manifestOf } from "../harness/hub.ts";
import { HubProcess, TestFolder } from "../harness/hub-process.ts";
import { CrashPublisher, eventOf } from "./crash-publisher.ts";

const CYCLES = Number(process.env.CRASH_CYCLES ?? 10);
const CYCLE_MS = 10_000;
/** Acknowledgements heard before the kill: from none to well under way. */
const MAX_HEARD = 250;

interface Stored {
	readonly id: string;
	readonly source: string;
	readonly subject: string;
	readonly type: string;
	readonly sequence: bigint;
	readonly json: string | undefined;
}

test(`a hub keeps what it acknowledged through SIGKILL, once and in order, ${CYCLES} times`, {
	timeout: CYCLES * CYCLE_MS,
}, async () => {
	using folder = new TestFolder();
	const publishers = [
		new CrashPublisher("stream0", { inBatches: true }),
		new CrashPublisher("stream1", { inBatches: true }),
		new CrashPublisher("unary0", { inBatches: false }),
		new CrashPublisher("unary1", { inBatches: false }),
	];
	const changes = new ControlChanges();
	const tokens = new Map<string, string>();
	const log = new LogMirror();

	const data = join(folder.path, "data");
	// A hub that ends in order leaves its compiled code, with which those that are killed start faster.
	const env = { NODE_COMPILE_CACHE: join(folder.path, "compiled") };
	{
		await using hub = await HubProcess.start("embedded", data, { env });
		for (const { id } of publishers) tokens.set(id, (await hub.enrol(id)).token);
	}
	for (let cycle = 0; cycle <= CYCLES; cycle++) {
		await using hub = await HubProcess.start("embedded", data, { env });
		await changes.verifyAndSettle(hub.operator);
		await log.readUntilRegistered(hub.operator, changes.madeIds);
		const clients = publishers.map((publisher) => hub.connect(tokens.get(publisher.id)));
		for (const [index, publisher] of publishers.entries()) {
			const alreadyThere = log.verify(publisher);
			const told = publisher.places.length;
			await publisher.resend(clients[index]!);
			const resent = publisher.places.slice(told);
			expect(resent).toHaveLength(publisher.sent.length - told);
			expect(resent.map((place) => place.duplicate)).toEqual(resent.map((_, at) => told + at < alreadyThere));
		}
		if (cycle === CYCLES) {
			const before = log.length;
			await log.read(hub.operator);
			for (const publisher of publishers) expect(log.verify(publisher)).toBe(publisher.sent.length);
			const again = new LogMirror();
			await again.read(hub.operator);
			expect(again.everything).toEqual(log.everything);
			expect(new Set(again.everything.map((event) => event.source))).toEqual(
				new Set(["hub", ...publishers.map((publisher) => publisher.id)]),
			);
			expect(again.length).toBeGreaterThanOrEqual(before);
			break;
		}
		const enough = Math.floor(Math.random() * MAX_HEARD);
		let heard = 0;
		const crashed = Promise.withResolvers<void>();
		const hear = () => {
			if (++heard > enough) crashed.resolve();
		};
		const writers = [
			...publishers.map((publisher, index) => publisher.publish(clients[index]!, hear)),
			changes.make(hub.operator, hear),
		];
		hear();
		const ended = Promise.allSettled(writers);
		await Promise.race([crashed.promise, Promise.all(writers)]);
		expect(await hub.kill()).toEqual({ code: null, signal: "SIGKILL" });
		expect((await ended).map(({ status }) => status)).toEqual(writers.map(() => "rejected"));
	}
});

/** The hub's log as an operator reads it, read on from where it was read before. */
class LogMirror {
	readonly everything: Stored[] = [];
	readonly #bySource = new Map<string, Stored[]>();
	readonly #verified = new Map<string, number>();
	#position: { epoch: string; sequence: bigint } | undefined;

	get length(): number {
		return this.everything.length;
	}

	/** Fails where the epoch changed, or the sequences are not one after the other. */
	async read({ events }: Clients): Promise<void> {
		const start = this.#position
			? ({ case: "after", value: this.#position } as const)
			: ({ case: "everything", value: true } as const);
		for await (const { frame, position } of events.subscribe({
			patterns: ["**"],
			start: { from: start },
			live: false,
		})) {
			if (frame.case !== "batch") continue;
			const first = this.length;
			for (const event of frame.value.events) {
				const { id, source, subject, type, sequence, payload } = event;
				const json = payload?.body.case === "json" ? payload.body.value : undefined;
				const stored = { id, source, subject, type, sequence, json };
				this.everything.push(stored);
				const ofSource = this.#bySource.get(source);
				if (ofSource) ofSource.push(stored);
				else this.#bySource.set(source, [stored]);
			}
			const read = this.everything.slice(first).map((event) => event.sequence);
			expect(read).toEqual(read.map((_, index) => BigInt(first + index + 1)));
			if (this.#position) expect(position?.epoch).toBe(this.#position.epoch);
			this.#position = { epoch: position!.epoch, sequence: read.at(-1)! };
		}
	}

	/** Reads until the log says of each of these plugins that it registered. Fails where it says so twice, or of another. */
	async readUntilRegistered(operator: Clients, made: ReadonlySet<string>): Promise<void> {
		const deadline = performance.now() + CYCLE_MS / 2;
		const said = () =>
			(this.#bySource.get("hub") ?? [])
				.filter((event) => event.type === "plugin:registered" && event.subject.startsWith("made-"))
				.map((event) => event.subject);
		do await this.read(operator);
		while (said().length < made.size && performance.now() < deadline);
		expect(said().toSorted()).toEqual([...made].toSorted());
	}

	/**
	 * Compares what is new of a publisher with its ledger: each acknowledged event at its place, nothing that was not sent,
	 * everything once and in the order it was sent. Returns how many of its events are stored.
	 */
	verify(publisher: CrashPublisher): number {
		const stored = this.#bySource.get(publisher.id) ?? [];
		const from = this.#verified.get(publisher.id) ?? 0;
		const fresh = stored.slice(from);
		expect(fresh.map(({ id, type, json }) => ({ id, type, json }))).toEqual(
			publisher.sent.slice(from, stored.length).map((id) => {
				const { type, payload } = eventOf(id);
				return { id, type, json: payload.body.value };
			}),
		);
		expect(stored.length).toBeGreaterThanOrEqual(publisher.places.length);
		const told = publisher.places.slice(from).map(({ epoch, sequence }) => ({ epoch, sequence }));
		const epoch = this.#position!.epoch;
		expect(told).toEqual(fresh.slice(0, told.length).map(({ sequence }) => ({ epoch, sequence })));
		this.#verified.set(publisher.id, publisher.places.length);
		return stored.length;
	}
}

/** Changes by the operator, one after the other: the permissions of one plugin, and a new plugin. */
class ControlChanges {
	readonly madeIds = new Set<string>();
	#asked = 0;
	#granted = { number: 0, revision: 0n };
	#registered = 0;

	/** Goes on until the hub is gone, which rejects. */
	async make({ admin, plugins }: Clients, heard: () => void): Promise<void> {
		while (true) {
			const number = ++this.#asked;
			const { revision } = await admin.setPermissions({ pluginId: "granted", permissions: grantOf(number) });
			this.#granted = { number, revision };
			heard();
			await plugins.register(registrationOf(number));
			this.#registered = number;
			this.madeIds.add(`made-${number}`);
			heard();
		}
	}

	/** Compares the hub's state with what was acknowledged, and asks again for what was not. */
	async verifyAndSettle({ admin, plugins }: Clients): Promise<void> {
		if (this.#asked === 0) return;
		const { permissions, revision } = await admin.getPermissions({ pluginId: "granted" });
		const stored = Number(permissions?.emit[0]?.replace("crash.version", "") ?? 0);
		if (stored === this.#granted.number) expect(revision).toBe(this.#granted.revision);
		else {
			expect(stored).toBe(this.#asked);
			expect(revision).toBeGreaterThan(this.#granted.revision);
			this.#granted = { number: stored, revision };
		}
		const found = new Set<string>();
		for (let pageToken: string | undefined = ""; pageToken !== undefined; ) {
			const page = await plugins.list({ pageSize: 500, pageToken });
			for (const { id } of page.plugins) if (id.startsWith("made-")) found.add(id);
			pageToken = page.nextPageToken || undefined;
		}
		const unsettled = this.#registered < this.#asked ? `made-${this.#asked}` : "";
		expect([...found].filter((id) => id !== unsettled).toSorted()).toEqual([...this.madeIds].toSorted());
		if (unsettled === "") return;
		const { duplicate } = await plugins.register(registrationOf(this.#asked));
		expect(duplicate).toBe(found.has(unsettled));
		this.#registered = this.#asked;
		this.madeIds.add(unsettled);
	}
}

const grantOf = (number: number) => ({ ...ALL_GRANTS, emit: [`crash.version${number}`] });

const registrationOf = (number: number) => ({
	manifestJson: manifestOf(`made-${number}`),
	requestId: `register-${number}`,
	withoutInstance: true,
});
