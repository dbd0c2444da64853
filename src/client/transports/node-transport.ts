import type { ClientSessionOptions, SecureClientSessionOptions } from "node:http2";
import type { Interceptor, Transport } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { KEEPALIVE_MS, KEEPALIVE_TIMEOUT_MS, STREAM_WINDOW_BYTES } from "./http2-connection.ts";

export interface NodeTransportOptions {
	readonly url: string;
	readonly interceptors?: Interceptor[];
	/** Trusted certificates and the client's own. */
	readonly tls?: Pick<SecureClientSessionOptions, "ca" | "cert" | "key" | "servername" | "rejectUnauthorized">;
}

/** gRPC by connect-node: every feature of Connect, such as interceptors, at a few times the cost of the lean transport. */
export function createNodeTransport({ url, interceptors, tls }: NodeTransportOptions): Transport & { close(): void } {
	const nodeOptions: ClientSessionOptions | SecureClientSessionOptions = {
		...tls,
		settings: { initialWindowSize: STREAM_WINDOW_BYTES },
	};
	const keepalive = {
		pingIntervalMs: KEEPALIVE_MS,
		pingTimeoutMs: KEEPALIVE_TIMEOUT_MS,
		pingIdleConnection: true,
	};
	const sessionManager = new Http2SessionManager(url, keepalive, nodeOptions);
	const transport = createGrpcTransport({ baseUrl: url, interceptors, sessionManager });
	return Object.assign(transport, { close: () => sessionManager.abort() });
}
