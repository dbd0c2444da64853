import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import type { UniversalServerResponse } from "@connectrpc/connect/protocol";
import type { Clock } from "../clock/clock.ts";
import { cutOffUpload } from "./cut-off-upload.ts";
import { releaseIterator } from "./release-iterator.ts";

/** Request headers as the Connect library takes them. Those that no `Headers` can hold are left out. */
export function webHeaders(headers: IncomingHttpHeaders): Headers {
	const web = new Headers();
	for (const [name, value] of Object.entries(headers)) {
		if (value === undefined || name.startsWith(":")) continue;
		try {
			for (const each of Array.isArray(value) ? value : [value]) web.append(name, each);
		} catch {
			// Node lets header bytes pass that the Fetch standard does not. No RPC protocol gives them a meaning.
		}
	}
	return web;
}

/**
 * The body of a request, read as it is asked for. Leaving early does not destroy the connection under the response.
 * Fails as soon as `signal` aborts for good, which is when `given` names a reason.
 */
export async function* readBody(
	request: IncomingMessage | Http2ServerRequest,
	signal: AbortSignal,
	given: () => Error | undefined,
): AsyncGenerator<Uint8Array> {
	const chunks = (request as IncomingMessage).iterator({ destroyOnReturn: false });
	let fail: ((reason: Error) => void) | undefined;
	const abort = () => {
		const reason = given();
		if (reason !== undefined) fail?.(reason);
	};
	signal.addEventListener("abort", abort);
	try {
		while (true) {
			const { done, value } = await new Promise<IteratorResult<Uint8Array>>((resolve, reject) => {
				fail = reject;
				abort();
				chunks.next().then(resolve, reject);
			});
			if (done) return;
			yield value;
		}
	} finally {
		signal.removeEventListener("abort", abort);
		void releaseIterator(chunks);
	}
}

/**
 * Writes a response, frame by frame, as fast as the peer takes it. Resolves when all of it is handed to the socket, or
 * when the peer is gone; then the body has been told to end. `signal` ends the wait for a peer that takes nothing, so
 * that the body can end itself. Rejects only where the body fails.
 */
export async function writeResponse(
	universal: UniversalServerResponse,
	response: ServerResponse | Http2ServerResponse,
	signal: AbortSignal,
): Promise<void> {
	const body = universal.body?.[Symbol.asyncIterator]();
	// Headers go out with the first frame: a handler may add to them until then.
	let frame = await body?.next();
	if (!isOpen(response)) {
		void releaseIterator(body);
		return;
	}
	(response as ServerResponse).writeHead(universal.status, nodeHeaders(universal.header));
	while (frame && !frame.done) {
		const more = (response as ServerResponse).write(frame.value);
		if (!more) await writable(response, signal);
		if (!isOpen(response)) {
			void releaseIterator(body);
			return;
		}
		frame = await body!.next();
	}
	if (!isOpen(response)) return;
	if (universal.trailer) response.addTrailers(nodeHeaders(universal.trailer) as Record<string, string>);
	response.end();
}

function isOpen(response: ServerResponse | Http2ServerResponse): boolean {
	if ("stream" in response) {
		const { stream } = response;
		return stream !== undefined && !stream.destroyed && !stream.closed;
	}
	return !response.destroyed && !response.writableEnded;
}

/** Wakes when the peer can take more, is gone, or nobody should wait for it any more. */
function writable(response: ServerResponse | Http2ServerResponse, signal: AbortSignal): Promise<void> {
	if (signal.aborted) return Promise.resolve();
	return new Promise((resolve) => {
		const done = () => {
			response.off("drain", done);
			response.off("close", done);
			signal.removeEventListener("abort", done);
			resolve();
		};
		response.on("drain", done);
		response.on("close", done);
		signal.addEventListener("abort", done);
	});
}

function nodeHeaders(headers: Headers | undefined): Record<string, string | string[]> {
	const node: Record<string, string | string[]> = {};
	headers?.forEach((value, name) => {
		node[name] = value;
	});
	return node;
}

/**
 * Ends the exchange for a peer that does not do its part once the answer is complete: a request that was not read to its
 * end is cut off, as HTTP/2 asks for, and an answer that is not taken within `lingerMs` is given up.
 */
export function endExchange(
	request: IncomingMessage | Http2ServerRequest,
	response: ServerResponse | Http2ServerResponse,
	clock: Clock,
	lingerMs: number,
): void {
	if (response.writableLength > 0 || ("stream" in response && (response.stream?.writableLength ?? 0) > 0)) {
		const linger = clock.after(lingerMs, () => response.destroy());
		response.once("close", () => linger.cancel());
	}
	if (request.readableEnded || request.destroyed) return;
	request.resume();
	if (!("stream" in response) || !response.stream) return;
	const { stream } = response;
	// Node's response objects always send a trailer block, and say so before they do; a reset must not overtake it.
	stream.once("wantTrailers", () => {
		setImmediate(() => cutOffUpload(stream, clock));
	});
}
