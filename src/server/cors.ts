import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";

/** Which pages of which origins may call the hub from a browser. */
export interface CorsOptions {
	/** Exact origins such as `https://panel.example`, or `*` for any. None by default. */
	readonly origins: readonly string[];
}

/** What browsers may send: the headers of Connect and gRPC-Web, credentials and tracing. */
const ALLOWED_HEADERS = [
	"authorization",
	"content-type",
	"connect-protocol-version",
	"connect-timeout-ms",
	"grpc-timeout",
	"x-grpc-web",
	"x-user-agent",
	"x-request-id",
	"traceparent",
].join(", ");

/** What pages may read of an answer: how a call of gRPC-Web ended, where there was no message. */
const EXPOSED_HEADERS = ["grpc-status", "grpc-message", "grpc-status-details-bin"].join(", ");

/** How long a browser may remember a preflight, in seconds. */
const MAX_AGE_SECONDS = 7200;

/** The cross-origin rules of the port. Without an allowed origin it says nothing, and browsers refuse. */
export class Cors {
	readonly #origins: ReadonlySet<string>;

	constructor(options: CorsOptions) {
		this.#origins = new Set(options.origins);
	}

	/** Adds headers for an allowed origin. True where the request was a preflight, which is then answered. */
	handle(request: IncomingMessage | Http2ServerRequest, answer: ServerResponse | Http2ServerResponse): boolean {
		const { origin } = request.headers;
		if (origin === undefined) return false;
		// The two classes share what is used here; their overloads do not.
		const response = answer as ServerResponse;
		const allowed = this.#origins.has(origin) || this.#origins.has("*");
		if (allowed) {
			response.setHeader("access-control-allow-origin", origin);
			response.setHeader("access-control-expose-headers", EXPOSED_HEADERS);
			response.setHeader("vary", "origin");
		}
		if (request.method !== "OPTIONS" || request.headers["access-control-request-method"] === undefined) return false;
		if (allowed) {
			response.setHeader("access-control-allow-methods", "POST, GET");
			response.setHeader("access-control-allow-headers", ALLOWED_HEADERS);
			response.setHeader("access-control-max-age", String(MAX_AGE_SECONDS));
		}
		response.writeHead(allowed ? 204 : 403);
		response.end();
		return true;
	}
}
