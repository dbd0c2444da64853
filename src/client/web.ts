import type { Transport } from "@connectrpc/connect";
import { HubClient, type HubClientOptions } from "./hub-client.ts";
import { createWebTransport } from "./transports/web-transport.ts";

export * from "./exports.ts";
export { createWebTransport, type WebTransportOptions } from "./transports/web-transport.ts";

export interface ConnectOptions extends HubClientOptions {
	/** The hub's address, such as `https://hub.example.org`; the page's origin must be one that the hub allows. */
	readonly url: string;
	/** Any transport. Default: the Connect protocol over `fetch`. */
	readonly transport?: Transport;
}

/**
 * Connects to a hub from a browser, where nothing can stream up: events and messages go by unary calls, subscriptions and
 * deliveries come on server streams. Otherwise the same client.
 */
export function connect(options: ConnectOptions): Promise<HubClient> {
	const transport = options.transport ?? createWebTransport({ url: options.url });
	return HubClient.connect({ transport, bidi: false }, options);
}
