import type { OutboxRecord } from "#gen/qirvo/hub/storage/v1/records_pb.js";
import type { Clock, IdSource, Timer } from "../clock/clock.ts";
import { decodeOutbox } from "../outbox/outbox.ts";
import { prefixes } from "../state/key-layout.ts";
import type { KvEntry, KvStore } from "../state/kv-store.ts";
import type { LogRecord, LogStore } from "../state/log-store.ts";
import { prefixEnd } from "../state/state-backend.ts";
import { recordId } from "./event-intake.ts";

/** Entries put in order and moved at a time. */
const MOVE_ENTRIES = 1000;
/** Entries looked at to find the oldest. */
const LOOK_ENTRIES = 10_000;
const RETRY_MS = 500;
const READ_BYTES = 1024 * 1024;

export interface OutboxPumpOptions {
	readonly kv: KvStore;
	readonly log: LogStore;
	readonly clock: Clock;
	readonly ids: IdSource;
	/** Told of a round that failed; the next one follows half a second later. */
	readonly onFault: (error: unknown) => void;
}

/**
 * Moves the hub's own events from the outbox, where they were written in one commit with the change that they tell of,
 * to the event log, in the order of those commits. An entry is deleted after its event is stored. Where a crash or a fault
 * came in between, the log is asked for the event first: it may have been stored longer ago than the log remembers ids.
 */
export class OutboxPump implements AsyncDisposable {
	readonly #options: OutboxPumpOptions;
	readonly #stop = new AbortController();
	#running: Promise<void> | undefined;
	/** Whether events may be stored whose entries are still here. */
	#mayBeStored = true;
	#wake: (() => void) | undefined;

	constructor(options: OutboxPumpOptions) {
		this.#options = options;
	}

	start(): void {
		this.#running ??= this.#run();
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#stop.abort();
		this.#wake?.();
		await this.#running;
	}

	async #run(): Promise<void> {
		const { signal } = this.#stop;
		while (!signal.aborted) {
			try {
				const changes = this.#options.kv.watch(prefixes.outboxEvents, { signal });
				await this.#moveAll();
				for await (const batch of changes) {
					if (batch.some((change) => change.value !== undefined)) await this.#moveAll();
				}
				// A store that ends its watches is closed; to watch it again at once would never let anyone else have a turn.
				if (!signal.aborted) await this.#pause();
			} catch (error) {
				if (signal.aborted) return;
				this.#options.onFault(error);
				await this.#pause();
			}
		}
	}

	async #moveAll(): Promise<void> {
		for (;;) {
			const entries = this.#oldest();
			if (entries.length === 0 || this.#stop.signal.aborted) return;
			await this.#move(entries);
		}
	}

	/** Keys are in the order of ids; what counts is the order of commits. */
	#oldest(): readonly KvEntry[] {
		const end = prefixEnd(prefixes.outboxEvents);
		const entries: KvEntry[] = [];
		let start: string = prefixes.outboxEvents;
		for (;;) {
			const page = this.#options.kv.range({ start, end, limit: MOVE_ENTRIES });
			entries.push(...page.entries);
			const last = page.entries.at(-1);
			if (!page.more || last === undefined || entries.length >= LOOK_ENTRIES) break;
			start = `${last.key}\0`;
		}
		return entries.sort((a, b) => a.revision - b.revision).slice(0, MOVE_ENTRIES);
	}

	async #move(entries: readonly KvEntry[]): Promise<void> {
		const { kv, log, ids } = this.#options;
		let records: LogRecord[] = [];
		for (const entry of entries) {
			const record = this.#decode(entry);
			if (record !== undefined)
				records.push({ id: recordId("hub", record.id), topic: record.topic, bytes: record.event });
		}
		if (this.#mayBeStored && records.length > 0) {
			const stored = await this.#newest(records.map((record) => record.topic));
			records = records.filter((record) => !stored.has(record.id));
		}
		this.#mayBeStored = true;
		if (records.length > 0) await log.append(records);
		await kv.commit({ id: ids.next(), writes: entries.map(({ key }) => ({ key, delete: true })) });
		this.#mayBeStored = false;
	}

	/**
	 * Ids of the newest records of these topics, which only the hub writes: as many as one move stores. Nothing is stored
	 * between a move that was not finished and the one that repeats it, so what it stored is among them.
	 */
	async #newest(topics: readonly string[]): Promise<ReadonlySet<string>> {
		const { log } = this.#options;
		const wanted = new Set(topics);
		const filter = { exact: [...wanted], matches: (topic: string) => wanted.has(topic) };
		const found = new Set<string>();
		for (let sequence = log.bounds().next - 1; sequence > 0 && found.size < MOVE_ENTRIES; ) {
			const page = await log.read({
				from: { sequence },
				direction: "backward",
				topics: filter,
				maxRecords: MOVE_ENTRIES,
				maxBytes: READ_BYTES,
			});
			for (const record of page.records) if (wanted.has(record.topic)) found.add(record.id);
			sequence = page.next;
		}
		return found;
	}

	/** An entry that cannot be read is reported and dropped, so that it does not hold up the others. */
	#decode(entry: KvEntry): OutboxRecord | undefined {
		try {
			return decodeOutbox(entry.value);
		} catch (error) {
			this.#options.onFault(new Error(`the outbox entry ${entry.key} is damaged`, { cause: error }));
			return undefined;
		}
	}

	async #pause(): Promise<void> {
		let timer: Timer | undefined;
		await new Promise<void>((resolve) => {
			this.#wake = resolve;
			timer = this.#options.clock.after(RETRY_MS, resolve);
		});
		timer?.cancel();
		this.#wake = undefined;
	}
}
