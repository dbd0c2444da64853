import {
	admin,
	type BadCall,
	DEEP,
	denied,
	EMIT,
	emit,
	eventWith,
	field,
	INVALID_UTF8,
	json,
	LONG,
	list,
	MIB,
	malformed,
	raw,
	SEND,
	SUBSCRIBE,
	send,
	subscribe,
} from "./bad-call.ts";
import { failureOf } from "./failure.ts";
import { Feed } from "./feed.ts";
import { manifestOf } from "./hub.ts";
import { Outbox } from "./outbox.ts";

/** What is wrong in one way each, with the code, the reason and the field that the hub must give. */
export const BAD_CALLS: readonly BadCall[] = [
	// What is no message of its type.
	malformed("JSON of a wrong type", json(EMIT, { event: { type: 7 } })),
	malformed("JSON with an array for an object", json(EMIT, { event: [] })),
	malformed("JSON with an unknown field", json(EMIT, { event: { type: "a.b", nothing: 1 } })),
	malformed(
		"JSON with a number out of range",
		json("/qirvo.hub.v1.EventService/ListEvents", { patterns: ["a.b"], pageSize: 1e12 }),
	),
	malformed(
		"JSON with an unknown enum value",
		json("/qirvo.hub.v1.EventService/ListEvents", { patterns: ["a.b"], order: "UPWARDS" }),
	),
	malformed("JSON with two of a oneof", json(EMIT, { event: { type: "a.b", payload: { json: "1", binary: "AA==" } } })),
	malformed("JSON cut short", json(EMIT, '{"event":')),
	malformed("JSON that is none", json(EMIT, "not json")),
	malformed("an empty body", json(EMIT, "")),
	malformed("JSON nested 20,000 deep", json(EMIT, `{"event":${"[".repeat(20_000)}`)),
	malformed("bytes that are no message", raw(EMIT, Buffer.from([0x0a, 0xff, 0x01]))),
	malformed("a field of a wrong wire type", raw(EMIT, Buffer.from([0x0a, 0x04, 0x10, 0x01, 0x18, 0x01]))),
	malformed("a message cut short", raw(EMIT, Buffer.from([0x0a]), 20)),
	malformed("a subscription that is no message", raw(SUBSCRIBE, Buffer.from([0x0a, 0x05, 0x61]))),
	malformed("a send that is no message", raw(SEND, Buffer.from([0x12, 0x7f]))),
	malformed("invalid UTF-8 in a type", raw(EMIT, eventWith(2, INVALID_UTF8))),
	malformed("invalid UTF-8 in a subject", raw(EMIT, eventWith(3, INVALID_UTF8))),
	malformed(
		"invalid UTF-8 in an attribute",
		raw(EMIT, eventWith(5, Buffer.concat([Buffer.from([0x0a, 2]), INVALID_UTF8]))),
	),
	malformed(
		"invalid UTF-8 in a JSON payload",
		raw(EMIT, eventWith(7, Buffer.concat([Buffer.from([0x0a, 2]), INVALID_UTF8]))),
	),
	malformed("invalid UTF-8 in a pattern", raw(SUBSCRIBE, Buffer.concat([Buffer.from([0x0a, 2]), INVALID_UTF8]))),
	malformed("a lone surrogate in a type", json(EMIT, '{"event":{"type":"a\\ud800"}}')),
	malformed("a lone surrogate in a subject", json(EMIT, '{"event":{"type":"a","subject":"\\udc00"}}')),

	// Ids and names.
	field("no event", ({ plugin }) => failureOf(plugin.events.emit({})), "event"),
	field("no type", emit({ type: "" }), "event.type", "INVALID_EVENT_TYPE"),
	field("a type of 300 characters", emit({ type: LONG }), "event.type", "INVALID_EVENT_TYPE"),
	field("a type with an empty token", emit({ type: "a..b" }), "event.type", "INVALID_EVENT_TYPE"),
	field("a type of 17 tokens", emit({ type: `${"a.".repeat(16)}a` }), "event.type", "INVALID_EVENT_TYPE"),
	field("an event id of 300 characters", emit({ id: LONG }), "event.id"),
	field("a subject of 600 bytes", emit({ subject: LONG + LONG }), "event.subject"),
	field("an ordering key of 300 bytes", emit({ orderingKey: LONG }), "event.ordering_key"),
	field("a time after year 9999", emit({ time: { seconds: 253_402_300_800n } }), "event.time"),
	field("a sequence of the publisher's", emit({ sequence: 5n }), "event.sequence"),
	field("a hub time of the publisher's", emit({ hubTime: { seconds: 5n } }), "event.hub_time"),
	field("an empty plugin id", ({ plugin }) => failureOf(plugin.plugins.get({})), "plugin_id", "INVALID_PLUGIN_ID"),
	field(
		"a plugin id of 300 characters",
		({ plugin }) => failureOf(plugin.plugins.get({ pluginId: LONG })),
		"plugin_id",
		"INVALID_PLUGIN_ID",
	),
	field(
		"a plugin id in capitals",
		({ plugin }) => failureOf(plugin.plugins.get({ pluginId: "Plugin" })),
		"plugin_id",
		"INVALID_PLUGIN_ID",
	),
	field(
		"a reserved plugin id",
		admin("issueCredential", { principal: { case: "pluginId", value: "hub" } }),
		"plugin_id",
		"INVALID_PLUGIN_ID",
	),
	field("no principal", admin("issueCredential", {}), "principal"),
	field("no target", admin("revokeCredential", {}), "target"),
	field(
		"a lifetime of no time",
		admin("issueCredential", { principal: { case: "pluginId", value: "p" }, lifetime: {} }),
		"lifetime",
	),
	field(
		"a request id of 300 characters",
		admin("issueCredential", { principal: { case: "pluginId", value: "p" }, requestId: LONG }),
		"request_id",
	),
	field(
		"a manifest that is no JSON",
		({ plugin }) => failureOf(plugin.plugins.register({ manifestJson: "{" })),
		"manifest_json",
		"INVALID_MANIFEST",
	),
	field("no manifest", ({ plugin }) => failureOf(plugin.plugins.register({})), "manifest_json", "INVALID_MANIFEST"),

	// Patterns and filters.
	field("no patterns", subscribe({ patterns: [] }), "patterns"),
	field("65 patterns", subscribe({ patterns: Array.from({ length: 65 }, () => "a") }), "patterns"),
	...["", "a..b", "**.a", "a.*b", "a/b", LONG, `${"a.".repeat(16)}*`].flatMap((pattern) => [
		field(
			`a pattern ${pattern.slice(0, 20)}`,
			subscribe({ patterns: ["a", pattern] }),
			"patterns[1]",
			"INVALID_PATTERN",
		),
		field(`a listed pattern ${pattern.slice(0, 20)}`, list({ patterns: [pattern] }), "patterns[0]", "INVALID_PATTERN"),
	]),
	field(
		"a granted pattern",
		admin("setPermissions", { pluginId: "p", permissions: { emit: ["ok", "**.a"] } }),
		"permissions.emit[1]",
		"INVALID_PATTERN",
	),
	...[
		...[
			"event.",
			"event.nothing == 1",
			"1 + 1",
			"nothing()",
			"event.type.matches('a')",
			"event.type == 'x' || ".repeat(200),
			"(".repeat(60),
		],
		// Work that grows with the cube of the data.
		"event.data.all(a, event.data.all(b, event.data.all(c, event.data.all(d, a + b + c + d > 0))))",
	].map((filter) => field(`a filter ${filter.slice(0, 30)}`, subscribe({ filter }), "filter", "INVALID_FILTER")),
	field("a priority of 101", subscribe({ priority: 101 }), "priority"),
	field("a priority of -101", subscribe({ priority: -101 }), "priority"),
	field("an idle timeout of nothing", subscribe({ idleTimeout: {} }), "idle_timeout"),
	field("an idle timeout below nothing", subscribe({ idleTimeout: { seconds: -1n } }), "idle_timeout"),
	field("a start that says nothing", subscribe({ start: {} }), "start"),
	field("a start that says false", subscribe({ start: { from: { case: "newOnly", value: false } } }), "start.new_only"),
	field(
		"a start beyond all positions",
		async (world) => {
			const { eventEpoch: epoch } = await world.plugin.hub.getHubInfo({});
			return subscribe({ start: { from: { case: "after", value: { epoch, sequence: 2n ** 64n - 1n } } } })(world);
		},
		"start.after.sequence",
	),

	// Content.
	denied(
		"JSON 200 deep",
		emit({ payload: { body: { case: "json", value: DEEP } } }),
		"INVALID_CONTENT",
		"event.payload.json",
	),
	denied(
		"a JSON payload that does not end",
		emit({ payload: { body: { case: "json", value: '{"a":' } } }),
		"INVALID_CONTENT",
		"event.payload.json",
	),
	denied(
		"a payload over 1 MiB",
		emit({ payload: { body: { case: "binary", value: new Uint8Array(MIB + 1) } } }),
		"INVALID_CONTENT",
		"event.payload",
	),
	denied(
		"a message payload over 1 MiB",
		send({ message: { type: "a", payload: { body: { case: "binary", value: new Uint8Array(MIB + 1) } } } }),
		"INVALID_CONTENT",
		"message.payload",
	),
	denied(
		"message JSON 200 deep",
		send({ message: { type: "a", payload: { body: { case: "json", value: DEEP } } } }),
		"INVALID_CONTENT",
		"message.payload.json",
	),
	field("a reserved attribute", emit({ attributes: { "hub-x": "1" } }), 'event.attributes["hub-x"]'),
	field("an empty attribute", emit({ attributes: { "": "1" } }), "event.attributes"),
	field(
		"65 attributes",
		emit({ attributes: Object.fromEntries(Array.from({ length: 65 }, (_, index) => [`k${index}`, ""])) }),
		"event.attributes",
	),
	field("an attribute of 5,000 bytes", emit({ attributes: { a: "x".repeat(5000) } }), "event.attributes"),
	field(
		"a reserved attribute of a message",
		send({ message: { type: "a", attributes: { "hub-x": "1" } } }),
		'message.attributes["hub-x"]',
	),
	{
		name: "a request over the method's limit",
		call: raw(EMIT, new Uint8Array(16), 2 * MIB + 1),
		code: "ResourceExhausted",
		reason: "MESSAGE_TOO_LARGE",
	},
	{
		name: "a batch over the method's limit",
		call: raw("/qirvo.hub.v1.EventService/EmitStream", new Uint8Array(16), 4 * MIB + 1),
		code: "ResourceExhausted",
		reason: "MESSAGE_TOO_LARGE",
	},
	{
		name: "a JSON request over the method's limit",
		call: json(EMIT, { event: { type: "a.b", subject: "x".repeat(2 * MIB) } }),
		code: "ResourceExhausted",
		reason: "MESSAGE_TOO_LARGE",
	},

	// What belongs to others.
	denied("a spoofed source", emit({ source: "somebody" }), "SPOOFED_SOURCE", "event.source"),
	denied(
		"a spoofed source of a message",
		send({ message: { type: "a", source: "somebody" } }),
		"SPOOFED_SOURCE",
		"message.source",
	),
	denied("the hub as source", emit({ source: "hub" }), "SPOOFED_SOURCE", "event.source"),
	...["plugin:registered", "plugin.offline", "plugin:unregistered"].map((type) =>
		denied(`the lifecycle event ${type}`, emit({ type }), "RESERVED_EVENT_TYPE"),
	),
	denied(
		"another plugin's manifest",
		({ plugin }) => failureOf(plugin.plugins.register({ manifestJson: manifestOf("other") })),
		"SPOOFED_SOURCE",
	),

	// Enums, oneofs and addresses.
	field("no address", send({ to: undefined }), "to"),
	field("an empty address", send({ to: {} }), "to"),
	field(
		"a bad recipient",
		send({ to: { target: { case: "pluginId", value: "No" } } }),
		"to.plugin_id",
		"INVALID_PLUGIN_ID",
	),
	field("no message", send({ message: undefined }), "message"),
	field("an unspecified priority", send({ message: { type: "a", priority: 0 } }), "message.priority"),
	field("an unknown priority", send({ message: { type: "a", priority: 9 } }), "message.priority"),
	field("an unspecified durability", send({ durability: 0 }), "durability"),
	field("a message without a type", send({ message: {} }), "message.type", "INVALID_EVENT_TYPE"),
	field("a ttl of nothing", send({ message: { type: "a", ttl: {} } }), "message.ttl"),
	field("a time to deliver at", send({ message: { type: "a", deliverAt: { seconds: 1n } } }), "message.deliver_at"),
	field("an unspecified trust level", admin("setTrustLevel", { pluginId: "p" }), "trust_level"),
	field("an unknown trust level", admin("setTrustLevel", { pluginId: "p", trustLevel: 9 }), "trust_level"),
	field("an unknown order", list({ order: 9 }), "order"),
	field("an unspecified state", ({ plugin }) => failureOf(plugin.plugins.list({ states: [0] })), "states[0]"),
	field(
		"an expected state that says nothing",
		({ plugin }) => failureOf(plugin.plugins.register({ manifestJson: manifestOf("plugin"), expected: {} })),
		"expected",
	),
	field(
		"a request without time",
		({ plugin }) =>
			failureOf(
				plugin.messaging.request({
					to: { target: { case: "pluginId", value: "plugin" } },
					message: { type: "a" },
					timeout: { seconds: 0n },
				}),
			),
		"timeout",
	),
	field(
		"a first frame that does not open",
		async ({ plugin }) => {
			const feed = new Feed(
				plugin.messaging.attach(new Outbox({ frame: { case: "credit", value: { maxInFlight: 1 } } } as const)),
			);
			await feed.ended;
			return feed.failure!;
		},
		"frame",
	),
	field(
		"too much credit",
		async ({ plugin }) => {
			const feed = new Feed(plugin.messaging.receive({ maxInFlight: 10_001 }));
			await feed.ended;
			return feed.failure!;
		},
		"max_in_flight",
	),

	// Page tokens.
	...["garbage", "AAAA", "%%%", LONG, LONG.repeat(20), "__proto__"].flatMap((pageToken) => [
		field(`events from ${pageToken.slice(0, 9)}`, list({ pageToken }), "page_token", "INVALID_PAGE_TOKEN"),
		field(
			`plugins from ${pageToken.slice(0, 9)}`,
			({ plugin }) => failureOf(plugin.plugins.list({ pageToken })),
			"page_token",
			"INVALID_PAGE_TOKEN",
		),
		field(
			`subscriptions from ${pageToken.slice(0, 9)}`,
			({ plugin }) => failureOf(plugin.events.listSubscriptions({ pageToken })),
			"page_token",
			"INVALID_PAGE_TOKEN",
		),
	]),
];
