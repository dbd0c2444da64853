import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from "node:http";
import { constants, type Http2ServerRequest, type Http2ServerResponse } from "node:http2";
import type { UniversalServerResponse } from "@connectrpc/connect/protocol";

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

/** The body of a request, read as it is asked for. Leaving early does not destroy the connection under the response. */
export async function* readBody(request: IncomingMessage | Http2ServerRequest): AsyncGenerator<Uint8Array> {
	yield* (request as IncomingMessage).iterator({ destroyOnReturn: false });
}

/**
 * Writes a response, frame by frame, as fast as the peer takes it. Resolves when all of it is handed to the socket, or
 * when the peer is gone; then the body has been told to end. Rejects only where the body fails.
 */
export async function writeResponse(
	universal: UniversalServerResponse,
	response: ServerResponse | Http2ServerResponse,
): Promise<void> {
	const body = universal.body?.[Symbol.asyncIterator]();
	// Headers go out with the first frame: a handler may add to them until then.
	let frame = await body?.next();
	if (!isOpen(response)) {
		void body?.return?.()?.catch(() => {});
		return;
	}
	(response as ServerResponse).writeHead(universal.status, nodeHeaders(universal.header));
	while (frame && !frame.done) {
		const more = (response as ServerResponse).write(frame.value);
		if (!more) await writable(response);
		if (!isOpen(response)) {
			void body?.return?.()?.catch(() => {});
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

/** Wakes when the peer can take more, or is gone. */
function writable(response: ServerResponse | Http2ServerResponse): Promise<void> {
	return new Promise((resolve) => {
		const done = () => {
			response.off("drain", done);
			response.off("close", done);
			resolve();
		};
		response.on("drain", done);
		response.on("close", done);
	});
}

function nodeHeaders(headers: Headers | undefined): Record<string, string | string[]> {
	const node: Record<string, string | string[]> = {};
	headers?.forEach((value, name) => {
		node[name] = value;
	});
	return node;
}

/** Lets go of a request body that was not read to its end: the answer is complete, and HTTP/2 asks to cut it off. */
export function endRequest(
	request: IncomingMessage | Http2ServerRequest,
	response: ServerResponse | Http2ServerResponse,
): void {
	if (request.readableEnded || request.destroyed) return;
	request.resume();
	if (!("stream" in response) || !response.stream) return;
	const { stream } = response;
	// Node's response objects always send a trailer block, and say so before they do; a reset must not overtake it.
	stream.once("wantTrailers", () => {
		setImmediate(() => stream.closed || stream.close(constants.NGHTTP2_NO_ERROR));
	});
}
