import { HubError } from "../hub-error.ts";
import { varintSize, writeVarint } from "./varint.ts";
import type { WireReader } from "./wire-reader.ts";

const NANOS_PER_MS = 1_000_000;
/** The bounds of `google.protobuf.Timestamp`: years 1 to 9999. */
const MIN_SECONDS = -62_135_596_800;
const MAX_SECONDS = 253_402_300_799;
const MAX_NANOS = 999_999_999;

/** Whether a `google.protobuf.Timestamp` may hold these, which it may from year 1 to year 9999. */
export function isTimestamp(seconds: number, nanos: number): boolean {
	return seconds >= MIN_SECONDS && seconds <= MAX_SECONDS && nanos >= 0 && nanos <= MAX_NANOS;
}

/** A `google.protobuf.Duration` in milliseconds. NaN where seconds and nanos do not go together. */
export function readDuration(reader: WireReader): number {
	const { seconds, nanos } = read(reader);
	const valid = Math.abs(nanos) <= MAX_NANOS && (seconds === 0 || nanos === 0 || seconds > 0 === nanos > 0);
	return valid ? seconds * 1000 + nanos / NANOS_PER_MS : Number.NaN;
}

/**
 * A `google.protobuf.Timestamp` in milliseconds since the Unix epoch. Refuses one that is out of its bounds, which decoders
 * may choke on.
 */
export function readTimestamp(reader: WireReader, field: string): number {
	const { seconds, nanos } = read(reader);
	if (!isTimestamp(seconds, nanos)) throw outOfTime(field);
	return seconds * 1000 + nanos / NANOS_PER_MS;
}

/** Whether it is a `google.protobuf.Timestamp` that is within its bounds: for who does not want to know which. */
export function readsTimestamp(reader: WireReader): boolean {
	const { seconds, nanos } = read(reader);
	return isTimestamp(seconds, nanos);
}

/** The refusal of a time that is out of its bounds. */
export function outOfTime(field: string): HubError {
	return HubError.field(field, "is not a time from year 1 to year 9999");
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

/** Bytes that `writeTime` writes. */
export function timeSize(ms: number): number {
	const seconds = secondsOf(ms);
	const nanos = nanosOf(ms, seconds);
	return (seconds > 0 ? 1 + varintSize(seconds) : 0) + (nanos > 0 ? 1 + varintSize(nanos) : 0);
}

/**
 * Writes milliseconds as the content of a duration, or of a timestamp since 1970, and gives the offset after it. What is
 * below 0 counts as 0.
 */
export function writeTime(target: Uint8Array, at: number, ms: number): number {
	const seconds = secondsOf(ms);
	const nanos = nanosOf(ms, seconds);
	let end = at;
	if (seconds > 0) {
		target[end] = 0x08;
		end = writeVarint(target, end + 1, seconds);
	}
	if (nanos > 0) {
		target[end] = 0x10;
		end = writeVarint(target, end + 1, nanos);
	}
	return end;
}

function secondsOf(ms: number): number {
	return ms > 0 ? Math.floor(ms / 1000) : 0;
}

function nanosOf(ms: number, seconds: number): number {
	return ms > 0 ? Math.floor(ms - seconds * 1000) * NANOS_PER_MS : 0;
}
