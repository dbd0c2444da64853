import type { Clock } from "../clock/clock.ts";
import type { EventBus } from "../events/event-bus.ts";
import type { MessagingCounters } from "../messaging/messaging-counters.ts";
import type { MiddlewareChain, MiddlewareCounters } from "../messaging/middleware-chain.ts";
import type { Router } from "../messaging/router.ts";
import type { Routes } from "../messaging/routes.ts";
import type { TopicMembers } from "../messaging/topic-members.ts";
import type { Registry } from "../plugins/registry.ts";
import type { Stores } from "../stores/stores.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { RpcServer } from "./http2-server.ts";
import type { Security } from "./open-security.ts";
import { registerStoreMetrics } from "./store-metrics.ts";

const MESSAGES: Readonly<Record<keyof MessagingCounters, string>> = {
	sent: "One-way messages accepted.",
	requested: "Requests accepted.",
	delivered: "Messages handed to a session; a redelivery counts again.",
	redelivered: "Messages handed to a session again.",
	acknowledged: "Durable messages whose acknowledgement is stored.",
	answered: "Requests that their handler answered.",
	late: "Settlements and replies for deliveries that were no longer there.",
	duplicates: "Repeats of a message id.",
	refusedFull: "Messages refused because the mailbox was full.",
	expired: "Messages not delivered in their time.",
	withdrawn: "Requests given up by their sender.",
	lost: "One-way messages lost because nobody was attached any more.",
	rejected: "One-way messages that their recipient terminated or did not acknowledge in all attempts.",
	published: "Publications, however many recipients they had.",
	broadcast: "Broadcasts, however many recipients they had.",
	skipped: "Recipients that a publication or broadcast was meant for and did not reach.",
	merged: "Recipients of a publication or broadcast that routes led to a plugin which got the message already.",
	mirrored: "Copies that a mirror route made.",
	mirrorLost: "Copies that a mirror route asked for, and that found no place.",
};

const VERDICTS: Readonly<Record<keyof MiddlewareCounters, string>> = {
	passed: "Verdicts that let a message pass.",
	changed: "Verdicts that changed a message.",
	answered: "Verdicts that answered a request.",
	refused: "Verdicts that refused a message.",
	late: "Verdicts that did not come within the middleware's deadline.",
	failed: "Verdicts that did not come for another reason, or could not be carried out.",
};

/** Registers what the parts of a running hub count. No labels, but on what stores count: nothing else is keyed by what a caller chooses. */
export function registerHubMetrics(
	metrics: Metrics,
	hub: {
		readonly registry: Registry;
		readonly bus: EventBus;
		readonly router: Router;
		readonly topics: TopicMembers;
		readonly routes: Routes;
		readonly middleware: MiddlewareChain;
		readonly security: Security;
		readonly server: RpcServer;
		readonly clock: Clock;
		readonly stores: Stores;
	},
): void {
	registerStoreMetrics(metrics, hub.stores.definitions);
	metrics.gauge(
		"hub_store_writes_waiting",
		"Writes to stores that wait or are being stored.",
		() => hub.stores.waiting,
	);
	const { registry, bus, router, topics, routes, middleware, security, server, clock } = hub;
	const { log } = bus;
	metrics.gauge("hub_plugins", "Registered plugins.", () => registry.index.size);
	metrics.gauge("hub_connections", "Open connections of any protocol.", () => server.openConnections);
	metrics.gauge(
		"hub_open_streams",
		"Long-lived streams that a change of policy can end.",
		() => security.openStreams.size,
	);
	metrics.gauge("hub_event_subscriptions", "Open subscriptions.", () => bus.subscriptions.size);
	const { durable } = bus;
	metrics.gauge("hub_durable_consumers", "Sessions that consume durable subscriptions.", () => durable.totals.sessions);
	metrics.gauge(
		"hub_durable_lag",
		"Stored events that durable subscriptions have not settled, as far as those are consumed now.",
		() => durable.totals.lag,
	);
	metrics.gauge("hub_durable_in_flight", "Deliveries that are not settled.", () => durable.totals.inFlight);
	metrics.counter(
		"hub_durable_redelivered_total",
		"Deliveries of events that had been delivered before.",
		() => durable.totals.redelivered,
	);
	metrics.counter(
		"hub_durable_dead_total",
		"Events of durable subscriptions that became dead letters.",
		() => durable.totals.dead,
	);
	metrics.counter(
		"hub_durable_lost_total",
		"Events that retention dropped before they were settled, at most.",
		() => durable.totals.lost,
	);
	metrics.gauge("hub_events_stored", "Events in the log.", () => log.bounds().next - log.bounds().first);
	metrics.gauge("hub_events_stored_bytes", "Bytes of events in the log, about.", () => log.bounds().bytes);
	metrics.counter("hub_events_total", "Events ever stored; the last sequence.", () => log.bounds().next - 1);
	metrics.gauge("hub_mailbox_messages", "Messages waiting in mailboxes.", () => router.backlog.messages);
	metrics.gauge("hub_mailbox_bytes", "Bytes waiting in mailboxes, about.", () => router.backlog.bytes);
	metrics.gauge("hub_message_memory_bytes", "Memory that messages take, about.", () => router.memory.used);
	metrics.gauge("hub_durable_messages", "Durable messages that are not settled.", () => router.store.size);
	metrics.gauge("hub_durable_oldest_seconds", "Age of the oldest durable message that is not settled.", () => {
		const { oldest } = router.store;
		return oldest === undefined ? 0 : Math.max(0, (clock.now() - oldest) / 1000);
	});
	for (const [name, help] of Object.entries(VERDICTS) as [keyof MiddlewareCounters, string][]) {
		metrics.counter(`hub_middleware_${name}_total`, help, () => middleware.counters[name]);
	}
	metrics.gauge("hub_middleware_inspecting", "Messages that middleware looks at.", () => middleware.size);
	metrics.gauge("hub_routes", "Routes in force.", () => routes.table.routes.length);
	metrics.gauge("hub_dead_letters", "Dead letters that are kept, messages and events.", () => router.letters.size);
	metrics.counter(
		"hub_dead_letters_total",
		"Messages and events that became dead letters.",
		() => router.letters.parked,
	);
	metrics.counter(
		"hub_dead_letters_dropped_total",
		"Dead letters that made room for newer ones.",
		() => router.letters.dropped,
	);
	metrics.gauge(
		"hub_message_recipients",
		"Plugins that are attached or have messages waiting.",
		() => router.held.recipients,
	);
	metrics.gauge("hub_topic_subscriptions", "Subscriptions to topics.", () => topics.size);
	metrics.gauge("hub_requests_pending", "Requests waiting for their reply.", () => router.held.pendingReplies);
	metrics.counter(
		"hub_audit_dropped_total",
		"Audit records that found no room in the queue, or could not be stored.",
		() => security.audit.dropped,
	);
	for (const [name, help] of Object.entries(MESSAGES) as [keyof MessagingCounters, string][]) {
		const word = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
		metrics.counter(`hub_messages_${word}_total`, help, () => router.counters[name]);
	}
}
