import type { DescMethod } from "@bufbuild/protobuf";
import type { CallSeries, Lane, Metrics } from "../telemetry/metrics.ts";
import { type Call, type MountedService, Raw, type RawOptions } from "./call.ts";
import type { MethodPolicies, MethodPolicy } from "./method-policy.ts";

/** An RPC as the lanes see it: everything about it that does not change from call to call. */
export interface MountedMethod {
	/** `/package.Service/Method`. */
	readonly path: string;
	readonly descriptor: DescMethod;
	// biome-ignore lint/suspicious/noExplicitAny: the types are in the descriptor
	readonly handle: (input: any, call: Call) => any;
	/** Set where the handler takes requests in wire form. */
	readonly raw: RawOptions | undefined;
	/** Undefined: the RPC has no row, and every call of it is refused. */
	readonly policy: MethodPolicy | undefined;
	/** The cap on one request message, in bytes. */
	readonly maxRequestBytes: number;
	readonly series: Readonly<Record<Lane, CallSeries>>;
}

/** Every mounted RPC by its path. Throws where a service is mounted twice or a handler is missing. */
export function mountMethods(
	services: readonly MountedService[],
	policies: MethodPolicies,
	metrics: Metrics,
): ReadonlyMap<string, MountedMethod> {
	const table = new Map<string, MountedMethod>();
	for (const { descriptor, handlers } of services) {
		for (const method of descriptor.methods) {
			const path = `/${descriptor.typeName}/${method.name}`;
			const handler = handlers[method.localName];
			if (!handler) throw new Error(`${path} has no handler`);
			if (table.has(path)) throw new Error(`${path} is mounted twice`);
			if (method.methodKind === "client_streaming") throw new Error(`${path}: uploads are bidi streams`);
			const policy = policies.get(path);
			const raw = handler instanceof Raw ? handler : undefined;
			table.set(path, {
				path,
				descriptor: method,
				handle: handler instanceof Raw ? handler.handler : handler,
				raw: raw?.options,
				policy,
				maxRequestBytes: policy?.maxRequestBytes ?? 1,
				series: { fast: metrics.calls(path, "fast"), connect: metrics.calls(path, "connect") },
			});
		}
	}
	return table;
}
