import type { Transport } from "@connectrpc/connect";
import { HubClient, type HubClientOptions } from "./hub-client.ts";
import { createLeanTransport, type LeanTransportOptions } from "./transports/lean-transport.ts";

export * from "./exports.ts";
export { createGrpcJsTransport, type GrpcJsTransportOptions } from "./transports/grpc-js-transport.ts";
export { createLeanTransport, type LeanTransport, type LeanTransportOptions } from "./transports/lean-transport.ts";
export { createNodeTransport, type NodeTransportOptions } from "./transports/node-transport.ts";

export interface ConnectOptions extends HubClientOptions {
	/** `http://127.0.0.1:50051`, or `https://...` where the hub has TLS. */
	readonly url: string;
	/** Trusted certificates and the client's own. */
	readonly tls?: LeanTransportOptions["tls"];
	/** Any transport that can stream both ways; the client does not close it. Default: gRPC on Node's HTTP/2. */
	readonly transport?: Transport;
}

/**
 * Connects to a hub, registers the plugin where a manifest is given, and stays connected until it is disposed of.
 *
 * ```ts
 * await using hub = await connect({ url: "http://127.0.0.1:50051", token, manifest });
 * ```
 */
export function connect(options: ConnectOptions): Promise<HubClient> {
	if (options.transport) return HubClient.connect({ transport: options.transport, bidi: true }, options);
	const transport = createLeanTransport({ url: options.url, tls: options.tls });
	return HubClient.connect({ transport, bidi: true, close: () => transport.close() }, options);
}
