import { create } from "@bufbuild/protobuf";
import { type Duration, durationFromMs, durationMs } from "@bufbuild/protobuf/wkt";
import { type DurableSubscription, DurableSubscriptionSchema } from "#gen/qirvo/hub/v1/durable_subscriptions_pb.js";
import { DURABLE_LIMITS } from "../events/durable/durable-definition.ts";
import type { Start } from "../events/start-position.ts";
import { compileEventFilter } from "../expressions/event-filter.ts";
import { HubError } from "../hub-error.ts";
import type { Pattern } from "../subjects/pattern.ts";
import { parsePatterns, parseStart } from "./event-requests.ts";

/** What a `CreateDurableSubscriptionRequest` asks for. */
export interface DurableQuery {
	/** With every default filled in. */
	readonly shown: DurableSubscription;
	readonly patterns: readonly Pattern[];
	readonly start: Start;
}

const NAME = /^[a-z0-9][a-z0-9._-]{0,127}$/;

/** Refuses with INVALID_FIELD. */
export function parseDurableName(name: string, field: string): string {
	if (NAME.test(name)) return name;
	throw HubError.field(field, "is not 1 to 128 of a-z, 0-9, '.', '_' and '-', starting with a letter or digit");
}

/** Refuses with INVALID_FIELD, INVALID_PATTERN or INVALID_FILTER, naming the field. */
export async function parseDurable(given: DurableSubscription | undefined): Promise<DurableQuery> {
	if (given === undefined) throw HubError.field("subscription", "is required");
	const { usual, least, most } = DURABLE_LIMITS.ackWaitMs;
	const name = parseDurableName(given.name, "subscription.name");
	const patterns = parsePatterns(given.patterns, "subscription.patterns");
	const start = parseStart(given.start, "subscription.start");
	if (given.backoff.length > DURABLE_LIMITS.backoffSteps) {
		throw HubError.field("subscription.backoff", `has more than ${DURABLE_LIMITS.backoffSteps} entries`);
	}
	const shown = create(DurableSubscriptionSchema, {
		name,
		patterns: given.patterns,
		filter: given.filter,
		start: given.start,
		ackWait: durationFromMs(given.ackWait ? parseWait(given.ackWait, least, most, "ack_wait") : usual),
		backoff: given.backoff.map((delay, index) =>
			durationFromMs(parseWait(delay, 0, DURABLE_LIMITS.backoffMs, `backoff[${index}]`)),
		),
		maxDeliveries: parseCount(given.maxDeliveries, DURABLE_LIMITS.deliveries, "max_deliveries"),
		maxInFlight: parseCount(given.maxInFlight, DURABLE_LIMITS.inFlight, "max_in_flight"),
	});
	if (given.filter !== "") await compileEventFilter(given.filter, "subscription.filter");
	return { shown, patterns, start };
}

function parseWait(duration: Duration, least: number, most: number, field: string): number {
	const ms = durationMs(duration);
	if (ms >= least && ms <= most) return Math.ceil(ms);
	throw HubError.field(`subscription.${field}`, `is ${ms} ms; ${least} to ${most} are allowed`);
}

function parseCount(count: number, { usual, most }: { usual: number; most: number }, field: string): number {
	if (count <= most) return count === 0 ? usual : count;
	throw HubError.field(`subscription.${field}`, `is ${count}; at most ${most} are allowed`);
}
