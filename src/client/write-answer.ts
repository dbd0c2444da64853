import type { AnyEntry } from "./store-entry.ts";
import { DELIMITED, VARINT, type WireCursor } from "./wire-cursor.ts";
import { WireEntry } from "./wire-entry.ts";

/** What a write did: a `WriteResult` of the contract, or the same read from its wire form. */
export interface WriteAnswer {
	readonly revision: bigint;
	readonly changed: boolean;
	readonly previous?: AnyEntry | undefined;
	readonly number: bigint;
}

// Field numbers of `WriteResult`.
const REVISION = 1;
const CHANGED = 2;
const PREVIOUS = 3;
const NUMBER = 4;

/** Reads the `WriteResult` from where the cursor stands to `end`. */
export function readWriteAnswer(cursor: WireCursor, end: number): WriteAnswer {
	let revision = 0;
	let changed = false;
	let previous: WireEntry | undefined;
	let number = 0n;
	while (cursor.at < end) {
		const tag = cursor.varint();
		const field = tag >>> 3;
		const wireType = tag & 7;
		if (wireType === VARINT && field === REVISION) revision = cursor.wideVarint();
		else if (wireType === VARINT && field === CHANGED) changed = cursor.varint() !== 0;
		else if (wireType === VARINT && field === NUMBER) number = BigInt.asIntN(64, cursor.bigVarint());
		else if (wireType === DELIMITED && field === PREVIOUS) {
			const length = cursor.varint();
			previous = new WireEntry(cursor.bytes, cursor.at, cursor.at + length);
			cursor.at += length;
		} else cursor.skip(wireType);
	}
	return { revision: BigInt(revision), changed, previous, number };
}
