import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type {
	ListTopicSubscriptionsRequest,
	SubscribeTopicRequest,
	UnsubscribeTopicRequest,
} from "#gen/qirvo/hub/v1/topics_pb.js";
import type { TopicMembers, TopicMembership } from "../messaging/topic-members.ts";
import type { AuditRecorder } from "../security/audit-entry.ts";
import type { Guard } from "../security/guard.ts";
import { parsePattern } from "../subjects/pattern.ts";
import type { Call } from "./call.ts";
import { pluginOf } from "./message-intake.ts";
import { decodePageToken, encodePageToken, pageSizeOf } from "./page-token.ts";
import { scopeOf } from "./plugin-scope.ts";

const PAGE_SIZES = { usual: 50, most: 1000 };

/** Who is subscribed to which topics: the RPCs of MessagingService that change it and show it. */
export function topicCalls(deps: {
	readonly topics: TopicMembers;
	readonly guard: Pick<Guard, "check">;
	readonly audit: AuditRecorder;
}) {
	const { topics, guard, audit } = deps;
	return {
		async subscribeTopic({ pattern: text }: SubscribeTopicRequest, { caller, requestId }: Call) {
			const pluginId = pluginOf(caller);
			const pattern = parsePattern(text, "pattern");
			guard.check(caller, { kind: "subscribe-topic", patterns: [pattern] }, undefined, requestId);
			const { membership, duplicate } = await topics.subscribe(pluginId, pattern);
			return { subscription: describe(membership), duplicate };
		},

		async unsubscribeTopic({ pattern }: UnsubscribeTopicRequest, { caller }: Call) {
			return { existed: await topics.unsubscribe(pluginOf(caller), parsePattern(pattern, "pattern")) };
		},

		async listTopicSubscriptions(request: ListTopicSubscriptionsRequest, call: Call) {
			const pluginId = scopeOf({ audit, things: "topic subscriptions" }, call, request.pluginId);
			const query = ["topics", pluginId];
			const size = pageSizeOf(request.pageSize, PAGE_SIZES);
			const { page, next } = topics.list(pluginId, size, decodePageToken(query, request.pageToken) ?? "");
			return { subscriptions: page.map(describe), nextPageToken: encodePageToken(query, next || undefined) };
		},
	};
}

function describe({ pluginId, pattern, createTime }: TopicMembership) {
	return { pluginId, pattern: pattern.spelling, createTime: timestampFromMs(createTime) };
}
