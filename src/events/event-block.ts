import { EventView } from "../expressions/event-view.ts";
import type { StoredRecord } from "../state/log-store.ts";
import { varintSize, writeVarint } from "../wire/varint.ts";
import { timeSize, writeTime } from "../wire/wire-time.ts";
import { type Audience, audienceOf, mayBeLifecycle } from "./lifecycle-audience.ts";
import { decodeStored } from "./stored-event.ts";

/** What entry tags, lengths and suffix take beside the stored bytes, at most. */
const ENTRY_OVERHEAD = 48;

/**
 * Events as the entries of a `repeated Event events = 1` field, one after the other, encoded once for everyone who gets
 * them: the stored bytes followed by `hub_time`, `sequence` and `is_replay`.
 */
export class EventBlock {
	readonly records: readonly StoredRecord[];
	/** Events stored below this sequence are marked `is_replay`. */
	readonly #replayBelow: number;
	readonly #bytes: Uint8Array;
	/** Where each entry ends; it begins where the one before ends. */
	readonly #ends: Uint32Array;
	readonly #audiences: ReadonlyMap<number, Audience> | undefined;
	#views: (EventView | undefined)[] | undefined;

	constructor(records: readonly StoredRecord[], replayBelow: number = 0) {
		this.records = records;
		this.#replayBelow = replayBelow;
		this.#ends = new Uint32Array(records.length);
		let room = 0;
		let audiences: Map<number, Audience> | undefined;
		for (const [index, record] of records.entries()) {
			room += record.bytes.byteLength + ENTRY_OVERHEAD;
			if (!mayBeLifecycle(record.topic)) continue;
			const audience = audienceOf(record);
			if (audience === undefined) continue;
			audiences ??= new Map();
			audiences.set(index, audience);
		}
		this.#audiences = audiences;
		const target = Buffer.allocUnsafeSlow(room);
		let at = 0;
		for (let index = 0; index < records.length; index++) {
			const record = records[index]!;
			at = writeEntry(target, at, record, record.sequence < replayBelow);
			this.#ends[index] = at;
		}
		this.#bytes = target.subarray(0, at);
	}

	get byteLength(): number {
		return this.#bytes.byteLength;
	}

	/** Whether some events of the block are not for everyone. */
	get hasAudiences(): boolean {
		return this.#audiences !== undefined;
	}

	/** Bytes of the entries `[from, to)`. */
	sizeOf(from: number, to: number): number {
		return to === from ? 0 : this.#ends[to - 1]! - this.#start(from);
	}

	/** The entries `[from, to)`, ready to be a part of a frame. */
	entries(from: number, to: number): Uint8Array {
		return this.#bytes.subarray(this.#start(from), this.#ends[to - 1]!);
	}

	/** Who may see the event; undefined: everyone whose patterns match. */
	audience(index: number): Audience | undefined {
		return this.#audiences?.get(index);
	}

	/** The event as filters see it, decoded at most once for all of them. */
	view(index: number): EventView {
		this.#views ??= [];
		const known = this.#views[index];
		if (known !== undefined) return known;
		const record = this.records[index]!;
		const view = new EventView(decodeStored(record, record.sequence < this.#replayBelow));
		this.#views[index] = view;
		return view;
	}

	#start(index: number): number {
		return index === 0 ? 0 : this.#ends[index - 1]!;
	}
}

function writeEntry(target: Buffer, start: number, record: StoredRecord, isReplay: boolean): number {
	const timeBytes = timeSize(record.time);
	const suffix = 3 + timeBytes + 2 + varintSize(record.sequence) + (isReplay ? 3 : 0);
	const { bytes } = record;
	let at = start;
	target[at++] = 0x0a;
	at = writeVarint(target, at, bytes.byteLength + suffix);
	target.set(bytes, at);
	at += bytes.byteLength;
	target[at++] = 0x8a;
	target[at++] = 0x01;
	target[at++] = timeBytes;
	at = writeTime(target, at, record.time);
	target[at++] = 0x90;
	target[at++] = 0x01;
	at = writeVarint(target, at, record.sequence);
	if (isReplay) {
		target[at++] = 0x98;
		target[at++] = 0x01;
		target[at++] = 0x01;
	}
	return at;
}
