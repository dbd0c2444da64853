import { CONTENT_LIMITS } from "../content/content-limits.ts";
import { HubError } from "../hub-error.ts";
import { parseSubject } from "../subjects/subject.ts";
import { WireReader } from "../wire/wire-reader.ts";
import { outOfTime, readDuration, readsTimestamp, readTimestamp } from "../wire/wire-time.ts";
import { bounded, ContentReader, type MessageContent } from "./message-content.ts";

/** Which message goes first, as an index: 0 is served first. */
export type PriorityClass = 0 | 1 | 2;

/** A message as its sender gave it: checked, in wire form, not yet taken by anyone. */
export interface MessageDraft {
	/** Empty where the hub is to make one. */
	readonly id: string;
	readonly type: string;
	readonly priority: PriorityClass;
	readonly orderingKey: string;
	/** Undefined: no bound. */
	readonly ttlMs: number | undefined;
	/** Milliseconds since the Unix epoch; undefined: at once. */
	readonly deliverAt: number | undefined;
	/** `Message` in wire form, without what the hub sets; a view of the frame it came in. */
	readonly wire: Uint8Array;
	/** The same as the sender wrote it, whatever was changed on the way: what tells a repeat from another message. */
	readonly sent: Uint8Array;
	readonly content: MessageContent;
	/** What tells a repeat from another message of the same id; empty: nobody can repeat it. Absent: made of `wire`. */
	readonly digest?: string;
}

/** The longest time that a message may name. */
export const MAX_AHEAD_MS = 366 * 24 * 60 * 60 * 1000;

/** `Priority` to class: LOW, NORMAL, HIGH. */
const CLASS_OF: readonly (PriorityClass | undefined)[] = [undefined, 2, 1, 0];

/**
 * Reads a `Message` in wire form. What the hub sets (fields 16 to 22) must not be there: a source other than `sender` is
 * SPOOFED_SOURCE, the rest INVALID_FIELD, so that the hub's own values can be appended. `field` is the message's path.
 */
export function parseMessage(
	wire: Uint8Array,
	sender: string,
	field: string,
	durability: "durable" | "transient",
): MessageDraft {
	const content = new ContentReader();
	const reader = new WireReader(wire);
	let id = "";
	let type = "";
	let priority: PriorityClass = 1;
	let orderingKey = "";
	let ttlMs: number | undefined;
	let deliverAt: number | undefined;
	let outer = 0;
	for (let number = reader.next(); number !== 0; number = reader.next()) {
		switch (number) {
			case 1:
				id = bounded(reader, CONTENT_LIMITS.idBytes, `${field}.id`);
				break;
			case 2:
				type = reader.string();
				break;
			case 3:
				outer = reader.enter();
				if (!readsTimestamp(reader)) throw outOfTime(`${field}.time`);
				reader.leave(outer);
				break;
			case 4:
				priority = priorityClass(reader.number(), field);
				break;
			case 5:
				reader.number();
				break;
			case 6:
				orderingKey = bounded(reader, CONTENT_LIMITS.orderingKeyBytes, `${field}.ordering_key`);
				break;
			case 7:
				ttlMs = timeToLive(reader.nested(), field);
				break;
			case 8:
				if (durability === "transient") throw HubError.field(`${field}.deliver_at`, "is for durable messages only");
				deliverAt = readTimestamp(reader.nested(), `${field}.deliver_at`);
				break;
			case 9:
				content.attribute(reader.nested(), field);
				break;
			case 10:
				outer = reader.enter();
				content.payload(reader);
				reader.leave(outer);
				break;
			case 16:
				refuseOtherSource(reader.string(), sender, field);
				break;
			case 17:
				if (reader.string() !== "") throw stampedByHub(`${field}.recipient`);
				break;
			case 18:
				throw stampedByHub(`${field}.hub_time`);
			case 19:
				if (reader.number() !== 0) throw stampedByHub(`${field}.requires_response`);
				break;
			case 20:
				if (reader.number() !== 0) throw stampedByHub(`${field}.attempt`);
				break;
			case 21:
				throw stampedByHub(`${field}.kind`);
			case 22:
				if (reader.string() !== "") throw stampedByHub(`${field}.topic`);
				break;
			default:
				reader.skip();
		}
	}
	parseSubject(type, `${field}.type`);
	return { id, type, priority, orderingKey, ttlMs, deliverAt, wire, sent: wire, content };
}

function priorityClass(value: number, field: string): PriorityClass {
	const found = CLASS_OF[value];
	if (found === undefined) throw HubError.field(`${field}.priority`, "must be LOW, NORMAL or HIGH where it is set");
	return found;
}

function timeToLive(reader: WireReader, field: string): number {
	const ms = readDuration(reader);
	if (!(ms > 0 && ms <= MAX_AHEAD_MS)) {
		throw HubError.field(`${field}.ttl`, "must be more than 0 and at most 366 days");
	}
	return ms;
}

function refuseOtherSource(source: string, sender: string, field: string): void {
	if (source === "" || source === sender) return;
	throw HubError.field(`${field}.source`, "names another plugin than the caller", "SPOOFED_SOURCE");
}

function stampedByHub(field: string): HubError {
	return HubError.field(field, "is set by the hub");
}
