import { StoreServiceWatchResponseSchema } from "#gen/qirvo/hub/v1/store_watch_pb.js";
import { WireWriter } from "../wire/wire-writer.ts";
import { Encoded } from "./call.ts";
import { entryErrorOf } from "./entry-error.ts";
import { encodeFrame } from "./messaging-frames.ts";
import { readyFrame, streamFrames } from "./stream-frames.ts";

/** Where a watch can be resumed. */
export interface WatchPosition {
	/** Of the store: its id. */
	readonly epoch: string;
	readonly revision: number;
}

/** How far a watch is. */
export interface WatchProgress {
	readonly watchId: string;
	readonly position: WatchPosition;
}

export const WATCH_FRAMES = streamFrames((frame) => encodeFrame(StoreServiceWatchResponseSchema, { frame }));

export function watchReady(id: string): Encoded {
	return encodeFrame(StoreServiceWatchResponseSchema, { frame: readyFrame(id) });
}

/** `changes` are elements of `EntryChangeBatch.changes` with their tags, spliced in as they are. */
export function watchBatch(
	watchId: string,
	changes: readonly Uint8Array[],
	position: WatchPosition | undefined,
): Encoded {
	const head = new WireWriter(watchId.length * 3 + 16);
	if (watchId !== "") head.string(1, watchId);
	const tail = new WireWriter(64);
	if (position !== undefined) tail.bytes(3, encodePosition(position));
	let bytes = head.length + tail.length;
	for (const change of changes) bytes += change.byteLength;
	const frame = new WireWriter(bytes + 16);
	frame.header(2, bytes);
	frame.append(head.finish());
	for (const change of changes) frame.append(change);
	frame.append(tail.finish());
	return new Encoded([frame.finish()]);
}

export function watchCaughtUp(progress: WatchProgress): Encoded {
	return encodeFrame(StoreServiceWatchResponseSchema, { frame: { case: "caughtUp", value: shown(progress) } });
}

export function watchEnded(watchId: string, failure: unknown, requestId: string): Encoded {
	const error = entryErrorOf(failure, requestId);
	return encodeFrame(StoreServiceWatchResponseSchema, { frame: { case: "ended", value: { watchId, error } } });
}

export function watchHeartbeat(positions: readonly WatchProgress[]): Encoded {
	const value = { positions: positions.map(shown) };
	return encodeFrame(StoreServiceWatchResponseSchema, { frame: { case: "heartbeat", value } });
}

function shown({ watchId, position }: WatchProgress) {
	return { watchId, position: { epoch: position.epoch, sequence: BigInt(position.revision) } };
}

function encodePosition({ epoch, revision }: WatchPosition): Uint8Array {
	const writer = new WireWriter(64);
	writer.string(1, epoch);
	writer.varint(2, revision);
	return writer.finish();
}
