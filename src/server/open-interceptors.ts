import type { Clock } from "../clock/clock.ts";
import { Interceptors } from "../messaging/interceptors.ts";
import type { MiddlewareChain } from "../messaging/middleware-chain.ts";
import type { Registry } from "../plugins/registry.ts";
import type { AuditRecorder } from "../security/audit-entry.ts";
import type { PolicyView } from "../security/policy-view.ts";
import type { Owner } from "./owner.ts";

/** The plugins that look at messages, with their places in the chain; what becomes of a place is recorded. */
export function openInterceptors(parts: {
	readonly chain: MiddlewareChain;
	readonly clock: Clock;
	readonly audit: AuditRecorder;
	readonly policy: Pick<PolicyView, "onChange">;
	readonly registry: Registry;
	readonly owner: Owner;
}): Interceptors {
	const { chain, clock, audit, policy, registry, owner } = parts;
	const interceptors = new Interceptors({
		chain,
		clock,
		onFreed: (pluginId, name, reason) =>
			audit.record({
				event: "interceptor_closed",
				actor: reason === "withdrawn" || reason === "stream_ended" ? `plugin:${pluginId}` : "hub",
				target: `interceptor:${pluginId}/${name}`,
				reason,
			}),
	});
	owner.use(policy.onChange(() => interceptors.dropRevoked()));
	owner.use(
		registry.index.onTransitions((transitions) => {
			for (const { id, after } of transitions) if (after === undefined) interceptors.remove(id);
		}),
	);
	return interceptors;
}
