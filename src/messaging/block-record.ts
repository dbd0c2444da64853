import { fromBinary } from "@bufbuild/protobuf";
import {
	type MailboxRecord,
	MessageBlockRecordSchema,
	SettledPlacesRecordSchema,
} from "#gen/qirvo/hub/storage/v1/records_pb.js";
import { varintSize } from "../wire/varint.ts";
import { WireReader } from "../wire/wire-reader.ts";
import { WireWriter } from "../wire/wire-writer.ts";

/** Bytes of a field's tag and length, at most. */
const HEADER_BYTES = 8;

/** Throws on bytes that are not a record. */
export function decodeBlock(bytes: Uint8Array): readonly MailboxRecord[] {
	return fromBinary(MessageBlockRecordSchema, bytes).messages;
}

/** A stored block, with where its messages are. */
export interface BlockBytes {
	readonly bytes: Uint8Array;
	/** By sequence. */
	readonly messages: ReadonlyMap<number, MessageBytes>;
}

/** One message of a stored block, as views of it. */
export interface MessageBytes {
	/** The `MailboxRecord`. */
	readonly record: Uint8Array;
	/** The message in wire form. */
	readonly message: Uint8Array;
}

/** Finds the messages of a stored block. Throws on bytes that are not a record. */
export function indexBlock(bytes: Uint8Array): BlockBytes {
	const messages = new Map<number, MessageBytes>();
	const reader = new WireReader(bytes);
	for (let field = reader.next(); field !== 0; field = reader.next()) {
		if (field !== 1) {
			reader.skip();
			continue;
		}
		const record = reader.view();
		const inner = new WireReader(record);
		let sequence = 0;
		let message = new Uint8Array();
		for (let number = inner.next(); number !== 0; number = inner.next()) {
			if (number === 9) sequence = inner.number();
			else if (number === 10) message = inner.view() as typeof message;
			else inner.skip();
		}
		messages.set(sequence, { record, message });
	}
	return { bytes, messages };
}

/** A block of some of the messages of another. */
export function joinRecords(records: readonly Uint8Array[]): Uint8Array {
	const total = records.reduce((sum, record) => sum + 1 + varintSize(record.byteLength) + record.byteLength, 0);
	const writer = new WireWriter(total + 16);
	for (const record of records) writer.bytes(1, record);
	return writer.finish();
}

/** A `SettledPlacesRecord` in wire form. */
export function encodePlaces(places: Uint8Array): Uint8Array {
	const writer = new WireWriter(places.byteLength + HEADER_BYTES);
	writer.bytes(1, places);
	return writer.finish();
}

/** Whether a place is settled, as `encodePlaces` wrote it; undefined: nothing was written. */
export function decodePlaces(bytes: Uint8Array | undefined): (place: number) => boolean {
	if (bytes === undefined) return () => false;
	const { places } = fromBinary(SettledPlacesRecordSchema, bytes);
	return (place) => ((places[place >> 3] ?? 0) & (1 << (place & 7))) !== 0;
}
