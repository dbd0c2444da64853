import {
	type DeleteRouteRequest,
	DeleteRouteRequestSchema,
	type GetRouteRequest,
	type ListRoutesRequest,
	type PutRouteRequest,
	PutRouteRequestSchema,
} from "#gen/qirvo/hub/v1/routes_pb.js";
import { HubError } from "../hub-error.ts";
import type { ChangedRoute, RevisedRoute, Routes } from "../messaging/routes.ts";
import { principalOf } from "../security/caller.ts";
import type { KvWrite } from "../state/kv-store.ts";
import type { Call } from "./call.ts";
import { parseExpectedState } from "./expected-state.ts";
import { decodePageToken, encodePageToken, pageSizeOf } from "./page-token.ts";
import { repeatable } from "./repeatable-request.ts";
import { parseRoute, parseRouteName } from "./route-request.ts";

/** Makes the audit record of a change of routes: a write for the change's own commit, and what to do once it is stored. */
export interface RouteAudit {
	change(entry: {
		readonly event: "route_put" | "route_deleted";
		readonly actor: string;
		readonly target: string;
		readonly details?: Readonly<Record<string, string>>;
		readonly requestId?: string;
	}): { readonly write: KvWrite; settle(): Promise<void> };
}

const PAGE_SIZES = { usual: 100, most: 1000 };
const LIST_QUERY = ["routes"];

/** The routes of MessagingService, for operators. */
export function routeCalls({ routes, audit }: { readonly routes: Routes; readonly audit: RouteAudit }) {
	type Entry = Parameters<RouteAudit["change"]>[0];
	const audited = async (entry: Entry, run: (also: readonly KvWrite[]) => Promise<ChangedRoute>) => {
		const change = audit.change(entry);
		const changed = await run([change.write]);
		if (changed.stored) await change.settle();
		return changed;
	};

	return {
		async putRoute(request: PutRouteRequest, call: Call) {
			const actor = operatorOf(call);
			const route = parseRoute(request.route, "route");
			const expected = parseExpectedState(request.expected, "expected");
			const once = repeatable(call, "route.put", PutRouteRequestSchema, request);
			const details = { action: route.action.case ?? "" };
			const entry = {
				event: "route_put",
				actor,
				target: `route:${route.name}`,
				details,
				requestId: call.requestId,
			} as const;
			const changed = await audited(entry, (also) =>
				routes.put(route, { expected, request: once, validateOnly: request.validateOnly, also }),
			);
			return { route: describe(changed.route), duplicate: changed.duplicate };
		},

		async getRoute(request: GetRouteRequest, call: Call) {
			operatorOf(call);
			return { route: describe(routes.get(parseRouteName(request.name, "name"))) };
		},

		async listRoutes(request: ListRoutesRequest, call: Call) {
			operatorOf(call);
			const size = pageSizeOf(request.pageSize, PAGE_SIZES);
			const page = routes.list(size + 1, readPlace(decodePageToken(LIST_QUERY, request.pageToken)));
			const shown = page.slice(0, size);
			const last = page.length > size ? shown.at(-1)?.route : undefined;
			const next = last && `${last.priority} ${last.name}`;
			return { routes: shown.map(describe), nextPageToken: encodePageToken(LIST_QUERY, next) };
		},

		async deleteRoute(request: DeleteRouteRequest, call: Call) {
			const actor = operatorOf(call);
			const name = parseRouteName(request.name, "name");
			const expected = parseExpectedState(request.expected, "expected");
			const once = repeatable(call, "route.delete", DeleteRouteRequestSchema, request);
			const entry = { event: "route_deleted", actor, target: `route:${name}`, requestId: call.requestId } as const;
			const { duplicate } = await audited(entry, (also) =>
				routes.delete(name, { expected, request: once, validateOnly: request.validateOnly, also }),
			);
			return { duplicate };
		},
	};
}

/** The method policy lets operators through only; this holds where a service is mounted without one. */
function operatorOf({ caller }: Call): string {
	if (caller.kind !== "operator") throw new HubError("CALLER_NOT_ALLOWED", "routes are for operators");
	return principalOf(caller);
}

function readPlace(token: string | undefined): { readonly priority: number; readonly name: string } | undefined {
	if (token === undefined) return undefined;
	const space = token.indexOf(" ");
	return { priority: Number(token.slice(0, space)), name: token.slice(space + 1) };
}

function describe({ route, revision }: RevisedRoute) {
	return { route, revision: BigInt(revision) };
}
