import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import { errorToJsonBytes } from "@connectrpc/connect/protocol-connect";
import { HubError } from "../hub-error.ts";
import { toConnectError } from "./connect-errors.ts";
import { toStatus } from "./error-codes.ts";
import { grpcTrailers } from "./grpc-trailers.ts";

/** Says METHOD_UNKNOWN in the terms of the protocol that the request speaks: gRPC, gRPC-Web, else Connect. */
export function answerUnknownMethod(
	request: IncomingMessage | Http2ServerRequest,
	answer: ServerResponse | Http2ServerResponse,
): void {
	// The two classes share what is used here; their overloads do not.
	const response = answer as ServerResponse;
	const path = (request.url ?? "").slice(0, 200);
	const error = new HubError("METHOD_UNKNOWN", "there is no such method", { metadata: { path } });
	const status = toStatus(error, "");
	const contentType = String(request.headers["content-type"] ?? "");
	if (contentType.startsWith("application/grpc")) {
		// A lone header block is how gRPC spells a failure without a message; gRPC-Web takes it too.
		response.writeHead(200, { "content-type": contentType.slice(0, 64), ...grpcTrailers(status) });
		response.end();
	} else {
		const body = errorToJsonBytes(toConnectError(status), undefined);
		response.writeHead(404, { "content-type": "application/json", "content-length": String(body.byteLength) });
		response.end(body);
	}
	request.resume();
}
