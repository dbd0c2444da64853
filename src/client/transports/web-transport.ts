import type { Interceptor, Transport } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";

export interface WebTransportOptions {
	readonly url: string;
	readonly interceptors?: Interceptor[];
	/** Default: the global one. */
	readonly fetch?: typeof globalThis.fetch;
}

/** The Connect protocol in binary form over `fetch`. Unary calls and server streams only. */
export function createWebTransport({ url, interceptors, fetch }: WebTransportOptions): Transport {
	return createConnectTransport({ baseUrl: url, useBinaryFormat: true, interceptors, fetch });
}
