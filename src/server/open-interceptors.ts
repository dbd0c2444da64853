import type { Clock } from "../clock/clock.ts";
import { Interceptors } from "../messaging/interceptors.ts";
import type { MiddlewareChain } from "../messaging/middleware-chain.ts";
import type { AuditRecorder } from "../security/audit-entry.ts";

/** The plugins that look at messages, with their places in the chain; what becomes of a place is recorded. */
export function openInterceptors(parts: {
	readonly chain: MiddlewareChain;
	readonly clock: Clock;
	readonly audit: AuditRecorder;
}): Interceptors {
	const { chain, clock, audit } = parts;
	return new Interceptors({
		chain,
		clock,
		onFreed: (pluginId, name, reason) =>
			audit.record({
				event: "interceptor_closed",
				actor: reason === "permission_revoked" ? "hub" : `plugin:${pluginId}`,
				target: `interceptor:${pluginId}/${name}`,
				reason,
			}),
	});
}
