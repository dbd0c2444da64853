import type { Duration, Timestamp } from "@bufbuild/protobuf/wkt";

/** Milliseconds as a protobuf duration. */
export function toDuration(ms: number): Duration {
	const seconds = Math.trunc(ms / 1000);
	const nanos = Math.round((ms - seconds * 1000) * 1e6);
	return { $typeName: "google.protobuf.Duration", seconds: BigInt(seconds), nanos };
}

export function durationMs(duration: Duration): number {
	return Number(duration.seconds) * 1000 + duration.nanos / 1e6;
}

/** Milliseconds since the Unix epoch as a protobuf timestamp. */
export function toTimestamp(ms: number): Timestamp {
	const seconds = Math.floor(ms / 1000);
	const nanos = Math.round((ms - seconds * 1000) * 1e6);
	return { $typeName: "google.protobuf.Timestamp", seconds: BigInt(seconds), nanos };
}

export function toDate(timestamp: Timestamp): Date {
	return new Date(Number(timestamp.seconds) * 1000 + Math.floor(timestamp.nanos / 1e6));
}
