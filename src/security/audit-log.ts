import type { Clock, IdSource, Timer } from "../clock/clock.ts";
import { keys, prefixes } from "../state/key-layout.ts";
import { KV_LIMITS, type KvStore, type KvWrite } from "../state/kv-store.ts";
import { LOG_LIMITS, type LogRecord, type LogStore } from "../state/log-store.ts";
import { prefixEnd } from "../state/state-backend.ts";
import { Mailbox } from "../streams/mailbox.ts";
import type { AuditEntry, AuditRecorder } from "./audit-entry.ts";
import { decodeAuditRecord, encodeAuditRecord } from "./audit-record.ts";
import { DenialBudget } from "./denial-budget.ts";

export interface AuditLogOptions {
	readonly kv: KvStore;
	/** Control changes. Apart from the denials, so that no flood of denials can push a change out. */
	readonly changes: LogStore;
	/** Denials, failed authentications, ended streams, and what plugins do as often as they like. */
	readonly denials: LogStore;
	readonly clock: Clock;
	readonly ids: IdSource;
	/** Records that each log keeps, about. Default 100,000. */
	readonly maxRecords?: number;
	/** Denials that may wait to be written. Default 8,192. */
	readonly maxWaiting?: number;
}

/** A control change that is about to be committed. */
export interface AuditedChange {
	/** Goes into the change's own commit: no change without its record, no record without its change. */
	readonly write: KvWrite;
	/**
	 * Moves the record to the log, once the commit is settled. Never rejects: the change is made, and a record that cannot be
	 * moved now is moved with the next one or at the next start.
	 */
	settle(): Promise<void>;
}

/** How long a denial waits after a fault of the store, in milliseconds. */
const RETRY_MS = 250;

/** Trimming is not worth a flush for fewer records than this. */
const TRIM_EVERY = 1000;

/**
 * Writes audit records. Nobody may slow the hub down, or push the records of others out, by being refused: denials wait in
 * a bounded queue and are written in batches; where it is full they are dropped and counted, and beyond a budget of each
 * actor they are summarized once a second. Control changes are never dropped, but for decisions that are
 * recorded after they are stored while nothing more can be.
 */
export class AuditLog implements AuditRecorder, AsyncDisposable {
	readonly #options: AuditLogOptions;
	readonly #maxRecords: number;
	readonly #waiting: Mailbox<LogRecord>;
	readonly #budget: DenialBudget;
	#summary: Timer | undefined;
	readonly #stop = new AbortController();
	#dropped = 0;
	#written = 0;
	/** Whether records of changes may still be in the outbox. */
	#behind = false;
	#pump: Promise<void> | undefined;

	constructor(options: AuditLogOptions) {
		this.#options = options;
		this.#maxRecords = options.maxRecords ?? 100_000;
		this.#budget = new DenialBudget(options.clock);
		this.#waiting = new Mailbox({ maxItems: options.maxWaiting ?? 8192 });
	}

	/** Moves what an earlier run left behind, then begins to write denials. Rejects with `StorageError`. */
	async start(): Promise<void> {
		await this.#moveLeftovers();
		this.#pump ??= this.#writeDenials();
	}

	/** Records that were not written, since the start. */
	get dropped(): number {
		return this.#dropped;
	}

	record(entry: AuditEntry): void {
		if (this.#budget.windowIsOver) this.#summarize();
		if (this.#budget.admit(entry.actor)) this.#enqueue(entry);
		else if (!this.#waiting.closed) this.#summary ??= this.#options.clock.after(1000, () => this.#summarize());
	}

	change(entry: AuditEntry): AuditedChange {
		const record = this.#toRecord(entry);
		return {
			write: { key: keys.outboxAudit(record.id), value: record.bytes },
			settle: () => this.#settle(record),
		};
	}

	/**
	 * Records a control decision that took several commits, once they are stored. Resolves when the record is stored. Never
	 * rejects: what cannot be stored at all is counted as dropped.
	 */
	async decided(entry: AuditEntry): Promise<void> {
		const record = this.#toRecord(entry);
		const { kv, changes, ids } = this.#options;
		try {
			await changes.append([record]);
			await changes.trim({ maxRecords: this.#maxRecords });
		} catch {
			// A record that is in the log already is not stored there twice.
			const write = { key: keys.outboxAudit(record.id), value: record.bytes };
			this.#behind = true;
			await kv.commit({ id: ids.next(), writes: [write] }).catch(() => this.#dropped++);
		}
	}

	/** Writes what waits, and stops. What cannot be written now is dropped. */
	async [Symbol.asyncDispose](): Promise<void> {
		this.#summarize();
		this.#waiting.close();
		this.#stop.abort();
		await this.#pump;
	}

	#enqueue(entry: AuditEntry): void {
		if (this.#waiting.push(this.#toRecord(entry)) !== "queued") this.#dropped++;
	}

	/** Says of each actor how many of its denials went beyond what is recorded one by one. */
	#summarize(): void {
		this.#summary?.cancel();
		this.#summary = undefined;
		for (const [actor, count] of this.#budget.endWindow()) {
			this.#enqueue({ event: "denials_summarized", actor, target: "hub", details: { count: String(count) } });
		}
	}

	async #settle(record: LogRecord): Promise<void> {
		try {
			if (this.#behind) await this.#moveLeftovers();
			else await this.#move([record]);
			this.#behind = false;
		} catch {
			this.#behind = true;
		}
	}

	async #writeDenials(): Promise<void> {
		while (await this.#waiting.wait()) {
			const batch = this.#waiting.take(LOG_LIMITS.appendRecords);
			while (!(await this.#tryAppend(batch))) {
				if (this.#stop.signal.aborted) {
					this.#dropped += batch.length;
					break;
				}
				await this.#pause(RETRY_MS);
			}
		}
	}

	async #tryAppend(batch: readonly LogRecord[]): Promise<boolean> {
		const { denials } = this.#options;
		try {
			await denials.append(batch);
			this.#written += batch.length;
			if (this.#written >= TRIM_EVERY) {
				this.#written = 0;
				await denials.trim({ maxRecords: this.#maxRecords });
			}
			return true;
		} catch {
			// Repeating the same ids settles an append whose outcome is not known.
			return false;
		}
	}

	async #move(records: readonly LogRecord[]): Promise<void> {
		const { kv, changes, ids } = this.#options;
		await changes.append(records);
		const writes = records.map(({ id }) => ({ key: keys.outboxAudit(id), delete: true }) as const);
		await kv.commit({ id: ids.next(), writes });
		await changes.trim({ maxRecords: this.#maxRecords });
	}

	async #moveLeftovers(): Promise<void> {
		const { kv } = this.#options;
		const end = prefixEnd(prefixes.outboxAudit);
		for (let more = true; more; ) {
			const page = kv.range({ start: prefixes.outboxAudit, end, limit: KV_LIMITS.pageEntries });
			if (page.entries.length === 0) return;
			await this.#move(
				page.entries.map(({ value }) => {
					const { id, event } = decodeAuditRecord(value);
					return { id, topic: event, bytes: value };
				}),
			);
			more = page.more;
		}
	}

	#toRecord(entry: AuditEntry): LogRecord {
		const id = this.#options.ids.next();
		const bytes = encodeAuditRecord({ id, time: this.#options.clock.now(), ...entry });
		return { id, topic: entry.event, bytes };
	}

	async #pause(ms: number): Promise<void> {
		const { promise, resolve } = Promise.withResolvers<void>();
		const timer = this.#options.clock.after(ms, resolve);
		const stop = () => resolve();
		this.#stop.signal.addEventListener("abort", stop, { once: true });
		await promise;
		this.#stop.signal.removeEventListener("abort", stop);
		timer.cancel();
	}
}
