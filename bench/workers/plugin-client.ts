import { connect, type HubClient } from "../../src/client/index.ts";

/** The SDK as an instance of a plugin, with room for `maxInFlight` deliveries. */
export function connectPlugin(url: string, token: string, id: string, maxInFlight?: number): Promise<HubClient> {
	const manifest = { manifest_version: 2, id, name: id, version: "1.0.0", type: "service" };
	return connect({ url, token, manifest, ...(maxInFlight !== undefined && { maxInFlight }) });
}
