import { create } from "@bufbuild/protobuf";
import { type Client, createClient } from "@connectrpc/connect";
import { Durability, type Message, MessagingService } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { PluginState } from "#gen/qirvo/hub/v1/plugin_service_pb.js";
import { TrustLevel } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import {
	BroadcastFilterSchema,
	type FanOutResult,
	type BroadcastFilter as FilterMessage,
} from "#gen/qirvo/hub/v1/topics_pb.js";
import type { ClientContext } from "./client-context.ts";
import { toDate } from "./durations.ts";
import { type HubReason, toClientError } from "./errors.ts";

/** What became of a message for many. */
export interface FanOutOutcome {
	/** The same for all recipients. */
	readonly id: string;
	/** Recipients of which an attached instance got it. */
	readonly delivered: number;
	/** Recipients in whose mailbox it waits. */
	readonly queued: number;
	/** Recipients that were meant and do not get it. */
	readonly skipped: number;
	/** The same by reason. */
	readonly reasons: ReadonlyMap<HubReason, number>;
	/** Recipients that routes lead to a plugin which gets the message already. */
	readonly merged: number;
	/** Whether the id was sent before. */
	readonly duplicate: boolean;
}

/** A subscription to topics. */
export interface TopicSubscription {
	readonly pluginId: string;
	readonly pattern: string;
	readonly createTime: Date | undefined;
}

export interface TopicListOptions {
	/** Whose, for operators. Default: the plugin's own; of an operator: all. */
	readonly pluginId?: string;
	readonly signal?: AbortSignal;
}

/** Which plugins a broadcast is for. All that is given must hold. */
export interface BroadcastFilter {
	/** One of these. */
	readonly pluginIds?: readonly string[];
	/** In one of these. */
	readonly categories?: readonly string[];
	/** Provides all of these. */
	readonly capabilities?: readonly string[];
	/** Such as `^1.4.0`. */
	readonly versionRange?: string;
	readonly minTrust?: "untrusted" | "basic" | "trusted" | "verified";
	/** In one of these states. */
	readonly states?: readonly ("registered" | "online" | "offline" | "disabled")[];
}

/** The calls of topics and broadcasts. */
export class Topics {
	readonly #context: ClientContext;
	readonly #client: Client<typeof MessagingService>;

	constructor(context: ClientContext) {
		this.#context = context;
		this.#client = createClient(MessagingService, context.transport);
	}

	/** False: it was there already. */
	async subscribe(pattern: string, signal?: AbortSignal): Promise<boolean> {
		const { duplicate } = await this.#call((options) => this.#client.subscribeTopic({ pattern }, options), signal);
		return !duplicate;
	}

	/** False: there was none. */
	async unsubscribe(pattern: string, signal?: AbortSignal): Promise<boolean> {
		const { existed } = await this.#call((options) => this.#client.unsubscribeTopic({ pattern }, options), signal);
		return existed;
	}

	async *list({ pluginId = "", signal }: TopicListOptions): AsyncGenerator<TopicSubscription, void, undefined> {
		let pageToken = "";
		do {
			const request = { pluginId, pageToken, pageSize: 100 };
			const page = await this.#call((options) => this.#client.listTopicSubscriptions(request, options), signal);
			for (const { pluginId, pattern, createTime } of page.subscriptions) {
				yield { pluginId, pattern, createTime: createTime && toDate(createTime) };
			}
			pageToken = page.nextPageToken;
		} while (pageToken !== "");
	}

	async publish(
		topic: string,
		message: Message,
		durable: boolean | undefined,
		signal?: AbortSignal,
	): Promise<FanOutOutcome> {
		const durability = durable === false ? Durability.TRANSIENT : Durability.DURABLE;
		const request = { topic, message, durability };
		const { result } = await this.#call((options) => this.#client.publish(request, options), signal);
		return outcomeOf(result!);
	}

	/** Of the message its id, type, attributes and payload. */
	async broadcast(message: Message, filter: BroadcastFilter | undefined, signal?: AbortSignal): Promise<FanOutOutcome> {
		const { id, type: event, attributes, payload: data } = message;
		const request = { id, event, attributes, ...(data && { data }), ...(filter && { filter: filterOf(filter) }) };
		const { result } = await this.#call((options) => this.#client.broadcast(request, options), signal);
		return outcomeOf(result!);
	}

	async #call<R>(
		call: (options: { timeoutMs: number; signal?: AbortSignal }) => Promise<R>,
		signal: AbortSignal | undefined,
	): Promise<R> {
		try {
			return await call({ timeoutMs: this.#context.callTimeoutMs, ...(signal && { signal }) });
		} catch (error) {
			throw toClientError(error, signal);
		}
	}
}

const TRUST = {
	untrusted: TrustLevel.UNTRUSTED,
	basic: TrustLevel.BASIC,
	trusted: TrustLevel.TRUSTED,
	verified: TrustLevel.VERIFIED,
} as const;

const STATES = {
	registered: PluginState.REGISTERED,
	online: PluginState.ONLINE,
	offline: PluginState.OFFLINE,
	disabled: PluginState.DISABLED,
} as const;

function filterOf(filter: BroadcastFilter): FilterMessage {
	const { pluginIds = [], categories = [], capabilities = [], versionRange = "", minTrust, states = [] } = filter;
	return create(BroadcastFilterSchema, {
		pluginIds: [...pluginIds],
		categories: [...categories],
		capabilities: [...capabilities],
		versionRange,
		...(minTrust && { minTrustLevel: TRUST[minTrust] }),
		states: states.map((state) => STATES[state]),
	});
}

function outcomeOf({ id, delivered, queued, skipped, reasons, merged, duplicate }: FanOutResult): FanOutOutcome {
	const byReason = new Map(reasons.map(({ reason, count }) => [reason as HubReason, count]));
	return { id, delivered, queued, skipped, reasons: byReason, merged, duplicate };
}
