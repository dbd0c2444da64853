import { durationMs, type Timestamp } from "@bufbuild/protobuf/wkt";
import type { DurableStart } from "#gen/qirvo/hub/v1/durable_subscriptions_pb.js";
import {
	type ListEventsRequest,
	ListOrder,
	type SubscribeRequest,
	type SubscribeStart,
} from "#gen/qirvo/hub/v1/event_service_pb.js";
import type { ListEventsQuery } from "../events/list-events.ts";
import type { Start } from "../events/start-position.ts";
import type { SubscriptionOptions } from "../events/subscription-options.ts";
import { compileEventFilter } from "../expressions/event-filter.ts";
import { HubError } from "../hub-error.ts";
import { type Pattern, parsePattern } from "../subjects/pattern.ts";
import { parsePluginId } from "../subjects/plugin-id.ts";
import { isTimestamp } from "../wire/wire-time.ts";
import { decodePageNumber, pageSizeOf } from "./page-token.ts";

/** Patterns of one subscription or listing. */
export const MAX_PATTERNS = 64;
const MAX_PRIORITY = 100;

/** What a `SubscribeRequest` asks for. */
export interface SubscribeQuery {
	readonly start: Start;
	readonly options: SubscriptionOptions;
	/** As given; empty: none. */
	readonly resumeToken: string;
}

/** Throws INVALID_FIELD, INVALID_PATTERN or INVALID_FILTER, naming the field. */
export async function parseSubscribe(request: SubscribeRequest): Promise<SubscribeQuery> {
	const patterns = parsePatterns(request.patterns);
	const start = parseStart(request.start);
	if (request.priority < -MAX_PRIORITY || request.priority > MAX_PRIORITY) {
		throw HubError.field("priority", `is ${request.priority}; it is from -${MAX_PRIORITY} to ${MAX_PRIORITY}`);
	}
	const idleTimeoutMs = request.idleTimeout === undefined ? undefined : durationMs(request.idleTimeout);
	if (idleTimeoutMs !== undefined && !(idleTimeoutMs >= 1)) {
		throw HubError.field("idle_timeout", "is shorter than a millisecond");
	}
	const filter = request.filter === "" ? undefined : await compileEventFilter(request.filter, "filter");
	const { priority, limit, resumeToken } = request;
	const options = { patterns, priority, filter, limit, idleTimeoutMs, live: request.live ?? true };
	return { start, options, resumeToken };
}

const EVENTS_PAGE = Object.freeze({ usual: 50, most: 1000 });

/** A question about history, and what its page tokens belong to. */
export interface ListEventsPage {
	readonly query: ListEventsQuery;
	readonly bound: readonly unknown[];
}

/** `epoch` is the log's. Throws INVALID_FIELD, INVALID_PATTERN, INVALID_PLUGIN_ID or INVALID_PAGE_TOKEN, naming the field. */
export function parseListEvents(request: ListEventsRequest, epoch: string): ListEventsPage {
	// Only the hub has no plugin id.
	const source =
		request.source === "" || request.source === "hub" ? request.source : parsePluginId(request.source, "source");
	if (!(request.order in ListOrder)) throw HubError.field("order", `${request.order} is not a known order`);
	const chosen = {
		patterns: parsePatterns(request.patterns),
		source,
		startTime: request.startTime && parseTime(request.startTime, "start_time"),
		endTime: request.endTime && parseTime(request.endTime, "end_time"),
		newestFirst: request.order === ListOrder.NEWEST_FIRST,
	};
	const { patterns, startTime = "", endTime = "", newestFirst } = chosen;
	const spellings = patterns.map((pattern) => pattern.canonical);
	const bound = ["events", epoch, spellings, source, startTime, endTime, newestFirst];
	const limit = pageSizeOf(request.pageSize, EVENTS_PAGE);
	return { query: { ...chosen, limit, next: decodePageNumber(bound, request.pageToken) }, bound };
}

/** Refuses with INVALID_FIELD or INVALID_PATTERN. */
export function parsePatterns(patterns: readonly string[], field: string = "patterns"): readonly Pattern[] {
	if (patterns.length === 0) throw HubError.field(field, "is empty; 1 to 64 are required");
	if (patterns.length > MAX_PATTERNS) {
		throw HubError.field(field, `has ${patterns.length}; at most ${MAX_PATTERNS} are allowed`);
	}
	return patterns.map((pattern, index) => parsePattern(pattern, `${field}[${index}]`));
}

/** Nothing given means with what is new. Refuses with INVALID_FIELD. */
export function parseStart(
	start: Pick<SubscribeStart | DurableStart, "from"> | undefined,
	field: string = "start",
): Start {
	if (start === undefined) return { from: "new" };
	const { from } = start;
	switch (from.case) {
		case "newOnly":
			if (!from.value) throw HubError.field(`${field}.new_only`, "must be true where it is set");
			return { from: "new" };
		case "everything":
			if (!from.value) throw HubError.field(`${field}.everything`, "must be true where it is set");
			return { from: "everything" };
		case "time":
			return { from: "time", time: parseTime(from.value, `${field}.time`) };
		case "after":
			return { from: "after", epoch: from.value.epoch, sequence: from.value.sequence };
		default:
			throw HubError.field(field, "says nothing; set one of its fields or leave it out");
	}
}

/** The first whole millisecond that is not before the time. */
function parseTime(time: Timestamp, field: string): number {
	const { seconds, nanos } = time;
	if (!isTimestamp(Number(seconds), nanos)) throw HubError.field(field, "is not a time from year 1 to year 9999");
	return Number(seconds) * 1000 + Math.ceil(nanos / 1_000_000);
}
