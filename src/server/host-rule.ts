import type { IncomingHttpHeaders } from "node:http";
import { isLoopback } from "../security/bind-rules.ts";

/** Which hosts a request may name as the one it is for. */
export type HostRule = (headers: IncomingHttpHeaders) => boolean;

/**
 * Admits requests for this machine by a loopback name or address, and those that name no host. A web page whose name was
 * made to resolve to this machine is of one origin with what listens here, but still sends its own name.
 */
export const loopbackHosts: HostRule = (headers) => {
	for (const named of [headers[":authority"], headers.host]) {
		if (typeof named === "string" && named !== "" && !isLoopback(hostOf(named))) return false;
	}
	return true;
};

/** The host of `host:port`, an address of IPv6 without its brackets. */
function hostOf(authority: string): string {
	const bracketed = /^\[([^\]]*)\](?::\d*)?$/.exec(authority);
	return bracketed?.[1] ?? authority.replace(/:\d*$/, "");
}
