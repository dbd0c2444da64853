import { fromBinary } from "@bufbuild/protobuf";
import { EventSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { HubError } from "../hub-error.ts";
import { requestDigest } from "../idempotency/request-digest.ts";
import type { LogAppended, LogRecord, LogStore, StoredRecord } from "../state/log-store.ts";

/** What became of one event: its place in the log, or ID_REUSED. */
export type AppendOutcome = LogAppended | HubError;

const COMPARE_PAGE_BYTES = 1024 * 1024;

/**
 * Publishing: events become records of the log. Appends are handed on as they come, because the log shares one flush
 * among all that are in flight. Storage faults pass through as they are.
 */
export class EventLog {
	readonly #log: LogStore;

	constructor(log: LogStore) {
		this.#log = log;
	}

	get epoch(): string {
		return this.#log.epoch;
	}

	/**
	 * Stores 1 to 1,000 events. Settles once they are as durable as the log makes them. An id that is stored already gives
	 * the first position where the content is the same, and ID_REUSED where it is not; a first event that is no longer kept
	 * counts as the same.
	 */
	async append(records: readonly LogRecord[]): Promise<readonly AppendOutcome[]> {
		const appended = await this.#log.append(records);
		if (!appended.some((entry) => entry.duplicate)) return appended;
		return this.#compare(records, appended);
	}

	async #compare(records: readonly LogRecord[], appended: readonly LogAppended[]): Promise<readonly AppendOutcome[]> {
		const wanted = [...new Set(appended.filter((entry) => entry.duplicate).map((entry) => entry.sequence))];
		const originals = await this.#readAll(wanted.sort((a, b) => a - b));
		return appended.map((entry, index) => {
			if (!entry.duplicate) return entry;
			const original = originals.get(entry.sequence);
			if (original === undefined || isSameEvent(original.bytes, records[index]!.bytes)) return entry;
			return new HubError("ID_REUSED", "an event with this id and other content was published before", {
				metadata: { epoch: this.#log.epoch, sequence: String(entry.sequence) },
			});
		});
	}

	/** The records of these sequences, ascending, as far as they are still kept. */
	async #readAll(sequences: readonly number[]): Promise<ReadonlyMap<number, StoredRecord>> {
		const found = new Map<number, StoredRecord>();
		let at = 0;
		while (at < sequences.length) {
			const from = sequences[at]!;
			let run = 1;
			while (sequences[at + run] === from + run) run++;
			const page = await this.#log.read({ from: { sequence: from }, maxRecords: run, maxBytes: COMPARE_PAGE_BYTES });
			const end = from + run - 1;
			for (const record of page.records) if (record.sequence <= end) found.set(record.sequence, record);
			// Where `from` is trimmed the page starts further on, past sequences that were not asked for in this read.
			const last = Math.min(page.records.at(-1)?.sequence ?? end, end);
			while (at < sequences.length && sequences[at]! <= last) at++;
		}
		return found;
	}
}

/** Whether two stored events say the same, however their fields and attributes were put in order. */
function isSameEvent(a: Uint8Array, b: Uint8Array): boolean {
	return Buffer.compare(a, b) === 0 || Buffer.compare(digest(a), digest(b)) === 0;
}

function digest(bytes: Uint8Array): Uint8Array {
	return requestDigest(EventSchema, fromBinary(EventSchema, bytes), []);
}
