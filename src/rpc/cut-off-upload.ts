import { constants, type ServerHttp2Stream } from "node:http2";
import type { Clock } from "../clock/clock.ts";

/**
 * How long a peer may take to end its request after the answer is complete, in milliseconds. HTTP/2 lets a server reset
 * the stream at once, but clients that find the reset beside the trailers report it instead of the status.
 */
const GRACE_MS = 250;

/** Ends a request whose answer is complete, trailers included, where the peer does not end it itself. */
export function cutOffUpload(stream: ServerHttp2Stream, clock: Clock): void {
	if (stream.closed || stream.readableEnded) return;
	stream.resume();
	const timer = clock.after(GRACE_MS, () => {
		if (!stream.closed) stream.close(constants.NGHTTP2_NO_ERROR);
	});
	stream.once("close", () => timer.cancel());
}
