import { CONTENT_LIMITS } from "../content/content-limits.ts";
import type { EventBus } from "../events/event-bus.ts";
import { SUBSCRIPTION_BOUNDS } from "../events/subscriptions.ts";
import { DEFAULT_MAILBOX_BOUNDS } from "../messaging/recipient-mailbox.ts";
import { MAX_MANIFEST_BYTES } from "../plugins/manifest.ts";
import { MAX_PATTERNS } from "../rpc/event-requests.ts";
import type { HubFacts } from "../rpc/hub-service.ts";
import type { StateBackend } from "../state/state-backend.ts";
import type { HubOptions } from "./hub-options.ts";

/** What `GetHubInfo` says of a hub that was wired so. */
export function hubFacts(hub: {
	readonly version: string;
	readonly state: StateBackend;
	readonly bus: EventBus;
	readonly options: HubOptions;
	readonly startTime: number;
}): HubFacts {
	const { version, state, bus, options, startTime } = hub;
	return {
		version,
		startTime,
		backend: state.name,
		durable: state.kv.capabilities.durable,
		eventEpoch: bus.events.epoch,
		devMode: options.dev,
		limits: {
			maxContentBytes: CONTENT_LIMITS.contentBytes,
			maxJsonDepth: CONTENT_LIMITS.jsonDepth,
			maxBatchEntries: CONTENT_LIMITS.batchEntries,
			maxBatchBytes: CONTENT_LIMITS.batchBytes,
			maxPatterns: MAX_PATTERNS,
			maxSubscriptions: SUBSCRIPTION_BOUNDS.perPrincipal,
			maxMailboxMessages: DEFAULT_MAILBOX_BOUNDS.maxMessages,
			maxMailboxBytes: DEFAULT_MAILBOX_BOUNDS.maxBytes,
			idWindowMs: options.idWindow.ms,
			leaseMs: options.leaseMs,
			maxManifestBytes: MAX_MANIFEST_BYTES,
		},
	};
}
