import { HubError } from "../hub-error.ts";
import type { WireReader } from "./wire-reader.ts";
import { varintSize, type WireWriter } from "./wire-writer.ts";

/** The longest duration that a message may name: 366 days. */
export const MAX_DURATION_MS = 366 * 24 * 60 * 60 * 1000;

const NANOS_PER_MS = 1_000_000;
/** The bounds of `google.protobuf.Timestamp`: years 1 to 9999. */
const MIN_SECONDS = -62_135_596_800;
const MAX_SECONDS = 253_402_300_799;

/** A `google.protobuf.Duration` in milliseconds. NaN where seconds and nanos do not go together. */
export function readDuration(reader: WireReader): number {
	const { seconds, nanos } = read(reader);
	const valid = Math.abs(nanos) <= 999_999_999 && (seconds === 0 || nanos === 0 || seconds > 0 === nanos > 0);
	return valid ? seconds * 1000 + nanos / NANOS_PER_MS : Number.NaN;
}

/**
 * A `google.protobuf.Timestamp` in milliseconds since the Unix epoch. Refuses one that is out of its bounds, which decoders
 * may choke on.
 */
export function readTimestamp(reader: WireReader, field: string): number {
	const { seconds, nanos } = read(reader);
	if (seconds < MIN_SECONDS || seconds > MAX_SECONDS || nanos < 0 || nanos > 999_999_999) {
		throw HubError.field(field, "is not a timestamp of the years 1 to 9999");
	}
	return seconds * 1000 + nanos / NANOS_PER_MS;
}

function read(reader: WireReader): { seconds: number; nanos: number } {
	let seconds = 0;
	let nanos = 0;
	for (let number = reader.next(); number !== 0; number = reader.next()) {
		if (number === 1) seconds = reader.signed();
		else if (number === 2) nanos = reader.signed();
		else reader.skip();
	}
	return { seconds, nanos };
}

/** Writes milliseconds of at least 0 as the `seconds` and `nanos` of a duration, or of a timestamp since 1970. */
export function writeTime(writer: WireWriter, field: number, ms: number): void {
	const whole = Math.max(0, Math.floor(ms));
	const seconds = Math.floor(whole / 1000);
	const nanos = (whole % 1000) * NANOS_PER_MS;
	writer.header(field, timeSize(ms));
	if (seconds > 0) writer.varint(1, seconds);
	if (nanos > 0) writer.varint(2, nanos);
}

/** Bytes that `writeTime` puts inside its field. */
export function timeSize(ms: number): number {
	const whole = Math.max(0, Math.floor(ms));
	const seconds = Math.floor(whole / 1000);
	const nanos = (whole % 1000) * NANOS_PER_MS;
	return (seconds > 0 ? 1 + varintSize(seconds) : 0) + (nanos > 0 ? 1 + varintSize(nanos) : 0);
}
