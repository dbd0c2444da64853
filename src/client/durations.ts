import { create } from "@bufbuild/protobuf";
import { type Duration, DurationSchema, type Timestamp, TimestampSchema } from "@bufbuild/protobuf/wkt";

/** Milliseconds as a protobuf duration. */
export function toDuration(ms: number): Duration {
	const duration = create(DurationSchema);
	const seconds = Math.trunc(ms / 1000);
	duration.seconds = BigInt(seconds);
	duration.nanos = Math.round((ms - seconds * 1000) * 1e6);
	return duration;
}

export function durationMs(duration: Duration): number {
	return Number(duration.seconds) * 1000 + duration.nanos / 1e6;
}

/** Milliseconds since the Unix epoch as a protobuf timestamp. */
export function toTimestamp(ms: number): Timestamp {
	const timestamp = create(TimestampSchema);
	const seconds = Math.floor(ms / 1000);
	timestamp.seconds = BigInt(seconds);
	timestamp.nanos = Math.round((ms - seconds * 1000) * 1e6);
	return timestamp;
}

export function toDate(timestamp: Timestamp): Date {
	return new Date(Number(timestamp.seconds) * 1000 + Math.floor(timestamp.nanos / 1e6));
}
