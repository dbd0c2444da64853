import {
	CreateDurableSubscriptionRequestSchema,
	DeleteDurableSubscriptionRequestSchema,
	ResetDurableSubscriptionRequestSchema,
} from "#gen/qirvo/hub/v1/durable_subscriptions_pb.js";
import type { EventService } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { HubError } from "../hub-error.ts";
import type { AuditRecorder } from "../security/audit-entry.ts";
import { principalOf } from "../security/caller.ts";
import type { KvWrite } from "../state/kv-store.ts";
import { openingCredit, readAcknowledge } from "./attach-frames.ts";
import { type Call, type HubService, Raw } from "./call.ts";
import { ConsumeStream } from "./consume-stream.ts";
import { settleAll } from "./consumer-settlements.ts";
import { ConsumerStream, type ConsumerStreamDeps, consumerOf, durableActions } from "./consumer-stream.ts";
import { parseDurable, parseDurableName } from "./durable-requests.ts";
import { entryErrorOf } from "./entry-error.ts";
import { parseStart } from "./event-requests.ts";
import { parseExpectedState } from "./expected-state.ts";
import { decodePageToken, encodePageToken, pageSizeOf } from "./page-token.ts";
import { ownerOf, scopeOf } from "./plugin-scope.ts";
import { repeatable } from "./repeatable-request.ts";

const PAGE = Object.freeze({ usual: 50, most: 500 });

type DurableHandlers = Pick<
	HubService<typeof EventService>,
	| "createDurableSubscription"
	| "getDurableSubscription"
	| "listDurableSubscriptions"
	| "deleteDurableSubscription"
	| "resetDurableSubscription"
	| "consume"
	| "receiveEvents"
	| "acknowledgeEvents"
>;

/**
 * Makes the audit record of an operator's change: a write for the change's own commit, and what to do once it is stored.
 * Takes refusals as well.
 */
export interface DurableAudit extends AuditRecorder {
	change(entry: {
		readonly event: "durable_subscription_deleted" | "durable_subscription_reset";
		readonly actor: string;
		readonly target: string;
		readonly details: Readonly<Record<string, string>>;
		readonly requestId: string;
	}): { readonly write: KvWrite; settle(): Promise<void> };
}

type AuditEvent = Parameters<DurableAudit["change"]>[0]["event"];

/** Durable subscriptions on the wire. */
export function durableHandlers(deps: ConsumerStreamDeps & { readonly audit: DurableAudit }): DurableHandlers {
	const { bus, guard, audit } = deps;
	const { durable } = bus;
	const owned = { audit, things: "durable subscriptions" };

	/** What a plugin does with its own is not recorded. */
	async function audited<R extends { readonly duplicate: boolean }>(
		event: AuditEvent,
		{ caller, requestId }: Call,
		details: { readonly plugin: string; readonly name: string; readonly start?: string },
		run: (also: readonly KvWrite[]) => Promise<R>,
	): Promise<R> {
		if (caller.kind !== "operator") return await run([]);
		const target = `plugin:${details.plugin}`;
		const change = audit.change({ event, actor: principalOf(caller), target, details, requestId });
		const changed = await run([change.write]);
		if (!changed.duplicate) await change.settle();
		return changed;
	}

	return {
		async createDurableSubscription(request, call) {
			const pluginId = consumerOf(call.caller);
			const { shown, patterns, start } = await parseDurable(request.subscription);
			for (const action of durableActions(patterns, start.from !== "new")) {
				guard.check(call.caller, action, undefined, call.requestId);
			}
			const once = repeatable(call, "durable.create", CreateDurableSubscriptionRequestSchema, request);
			return await durable.create({ pluginId, shown, start }, once);
		},

		async getDurableSubscription(request, call) {
			const pluginId = ownerOf(owned, call, request.pluginId);
			return { subscription: durable.get(pluginId, parseDurableName(request.name, "name")) };
		},

		async listDurableSubscriptions(request, call) {
			const pluginId = scopeOf(owned, call, request.pluginId);
			const bound = ["durable", pluginId];
			const after = decodePageToken(bound, request.pageToken) ?? "";
			const { subscriptions, next } = durable.list({ pluginId, after, limit: pageSizeOf(request.pageSize, PAGE) });
			return { subscriptions: [...subscriptions], nextPageToken: encodePageToken(bound, next) };
		},

		async deleteDurableSubscription(request, call) {
			const pluginId = ownerOf(owned, call, request.pluginId);
			const name = parseDurableName(request.name, "name");
			const expected = parseExpectedState(request.expected, "expected");
			const once = repeatable(call, "durable.delete", DeleteDurableSubscriptionRequestSchema, request);
			return await audited("durable_subscription_deleted", call, { plugin: pluginId, name }, async (also) => ({
				duplicate: await durable.delete({ pluginId, name, expected, also }, once),
			}));
		},

		async resetDurableSubscription(request, call) {
			const pluginId = ownerOf(owned, call, request.pluginId);
			const name = parseDurableName(request.name, "name");
			const expected = parseExpectedState(request.expected, "expected");
			if (request.start === undefined) throw HubError.field("start", "is required");
			const start = parseStart(request.start);
			const { patterns } = durable.define(pluginId, name);
			for (const action of durableActions(patterns, start.from !== "new")) {
				guard.check(call.caller, action, undefined, call.requestId);
			}
			const once = repeatable(call, "durable.reset", ResetDurableSubscriptionRequestSchema, request);
			const target = { pluginId, name, expected, start, shownStart: request.start };
			const details = { plugin: pluginId, name, start: start.from };
			return await audited("durable_subscription_reset", call, details, (also) =>
				durable.reset({ ...target, also }, once),
			);
		},

		consume: new Raw(
			(requests: AsyncIterable<Uint8Array>, call: Call) => new ConsumeStream(deps, requests, call).responses,
		),

		receiveEvents({ name, maxInFlight }, call) {
			const credit = openingCredit(maxInFlight, "");
			const down = new ConsumerStream(deps, call);
			down.open(name, "name", credit).catch((error: unknown) => down.responses.fail(error));
			return down.responses;
		},

		acknowledgeEvents: new Raw(async (bytes: Uint8Array, call: Call) => {
			const { sessionId, settlements, maxInFlight } = readAcknowledge(bytes);
			const session = durable.session(consumerOf(call.caller), sessionId);
			const { final, failures } = settleAll(session, settlements);
			if (maxInFlight !== undefined) session.setMaxInFlight(maxInFlight);
			if (final.length > 0) await session.stored();
			return {
				failures: failures.map(({ deliveryId, error }) => ({
					deliveryId,
					error: entryErrorOf(error, call.requestId),
				})),
			};
		}),
	};
}
