import { fromBinary } from "@bufbuild/protobuf";
import { type SettledId, SettledIdsRecordSchema } from "#gen/qirvo/hub/storage/v1/records_pb.js";
import { asciiSize, stringSize } from "../wire/string-size.ts";
import { varintSize } from "../wire/varint.ts";
import { WireWriter } from "../wire/wire-writer.ts";
import type { StoredMessage } from "./queued-message.ts";

/** The stored record of ids that were settled together. It goes with the last of them. */
export class SettledIds {
	readonly key: string;
	readonly #onForgotten: (settled: SettledIds) => void;
	#left: number;

	/** `onForgotten` runs once none of the `count` ids is known any more. */
	constructor(key: string, count: number, onForgotten: (settled: SettledIds) => void) {
		this.key = key;
		this.#left = count;
		this.#onForgotten = onForgotten;
	}

	/** One of its ids is known no longer. True: the record is to be deleted. */
	forget(): boolean {
		if (--this.#left > 0) return false;
		this.#onForgotten(this);
		return true;
	}
}

/** A `SettledIdsRecord` in wire form. By hand: it is made for every few durable messages. */
export function encodeSettledIds(messages: readonly StoredMessage[]): Uint8Array {
	const writer = new WireWriter(messages.length * 128);
	for (const { id, source, stored } of messages) {
		const { digest, acceptTime, sequence } = stored;
		const strings = stringSize(id) + asciiSize(source) + asciiSize(digest);
		writer.header(1, strings + 2 + varintSize(acceptTime) + varintSize(sequence));
		writer.string(1, id);
		writer.string(2, source);
		writer.string(3, digest);
		writer.varint(4, acceptTime);
		writer.varint(5, sequence);
	}
	return writer.finish();
}

/** Throws on bytes that are not a record. */
export function decodeSettledIds(bytes: Uint8Array): readonly SettledId[] {
	return fromBinary(SettledIdsRecordSchema, bytes).ids;
}
