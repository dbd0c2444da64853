import { CONTENT_LIMITS } from "../content/content-limits.ts";
import { HubError } from "../hub-error.ts";
import type { DeliveryPolicy } from "../messaging/delivery-policy.ts";
import { bounded } from "../messaging/message-content.ts";
import { type DeliveryOutcome, MAX_IN_FLIGHT } from "../messaging/receiving-session.ts";
import { WireReader } from "../wire/wire-reader.ts";
import { readDuration } from "../wire/wire-time.ts";
import { readPolicy } from "./delivery-policy-request.ts";
import { merged } from "./send-frames.ts";

/** What a recipient says about one delivery. */
export interface SettlementView {
	readonly deliveryId: string;
	/** Undefined: it says nothing. */
	readonly outcome: DeliveryOutcome | undefined;
}

/** A reply, with its `ReplyContent` in wire form; undefined: absent. */
export interface ReplyView {
	readonly deliveryId: string;
	readonly reply: Uint8Array | undefined;
}

/** A frame of `Attach`. */
export type AttachFrame =
	| {
			readonly kind: "open";
			readonly instanceId: string;
			readonly maxInFlight: number;
			readonly policy: DeliveryPolicy;
	  }
	| { readonly kind: "settlement"; readonly settlements: readonly SettlementView[] }
	| { readonly kind: "reply"; readonly reply: ReplyView }
	| { readonly kind: "credit"; readonly maxInFlight: number };

const MAX_REASON_BYTES = 512;
const MAX_DELAY_MS = 60 * 60 * 1000;
const DEFAULT_IN_FLIGHT = 64;

/** Refuses what is no frame. Of a oneof given twice the last counts. */
export function readAttachFrame(bytes: Uint8Array): AttachFrame {
	const reader = new WireReader(bytes);
	let frame: AttachFrame | undefined;
	for (let number = reader.next(); number !== 0; number = reader.next()) {
		if (number === 1) frame = readOpen(reader.nested());
		else if (number === 2) frame = { kind: "settlement", settlements: readSettlement(reader.nested()) };
		else if (number === 3) frame = { kind: "reply", reply: readReply(reader.nested()) };
		else if (number === 4) frame = { kind: "credit", maxInFlight: readCredit(reader.nested(), "credit") };
		else reader.skip();
	}
	if (frame === undefined) throw HubError.field("frame", "must be set");
	return frame;
}

function readOpen(reader: WireReader): AttachFrame {
	let instanceId = "";
	let maxInFlight = 0;
	let policy: Uint8Array | undefined;
	for (let number = reader.next(); number !== 0; number = reader.next()) {
		if (number === 1) instanceId = reader.string();
		else if (number === 2) maxInFlight = reader.number();
		else if (number === 3) policy = merged(policy, reader.view());
		else reader.skip();
	}
	return {
		kind: "open",
		instanceId,
		maxInFlight: openingCredit(maxInFlight, "open."),
		policy: readPolicy(policy, "open.policy"),
	};
}

/** What a session begins with: 0 stands for the default. */
export function openingCredit(maxInFlight: number, prefix: string): number {
	return maxInFlight === 0 ? DEFAULT_IN_FLIGHT : creditWithin(maxInFlight, `${prefix}max_in_flight`);
}

/** Refuses more credit than a session may have. */
export function creditWithin(maxInFlight: number, field: string): number {
	if (maxInFlight <= MAX_IN_FLIGHT) return maxInFlight;
	throw HubError.field(field, `is ${maxInFlight}; at most ${MAX_IN_FLIGHT} are allowed`);
}

/** A `Credit`. */
export function readCredit(reader: WireReader, field: string): number {
	let maxInFlight = 0;
	for (let number = reader.next(); number !== 0; number = reader.next()) {
		if (number === 1) maxInFlight = reader.number();
		else reader.skip();
	}
	return creditWithin(maxInFlight, `${field}.max_in_flight`);
}

/** A `Settlement`. */
export function readSettlement(reader: WireReader): SettlementView[] {
	const settlements: SettlementView[] = [];
	for (let number = reader.next(); number !== 0; number = reader.next()) {
		if (number === 1) addSettlement(settlements, reader.nested(), "settlement.deliveries");
		else reader.skip();
	}
	return settlements;
}

function addSettlement(settlements: SettlementView[], reader: WireReader, field: string): void {
	if (settlements.length === CONTENT_LIMITS.batchEntries)
		throw HubError.field(field, `has more than ${CONTENT_LIMITS.batchEntries} entries`);
	let deliveryId = "";
	let outcome: DeliveryOutcome | undefined;
	const path = `${field}[${settlements.length}]`;
	for (let number = reader.next(); number !== 0; number = reader.next()) {
		switch (number) {
			case 1:
				deliveryId = reader.string();
				break;
			case 2:
				requireTrue(reader.number(), `${path}.acknowledge`);
				outcome = { kind: "acknowledge" };
				break;
			case 3:
				outcome = { kind: "negative", delayMs: readDelay(reader.nested(), `${path}.negative.delay`) };
				break;
			case 4:
				outcome = { kind: "terminate", reason: readReason(reader.nested(), `${path}.terminate.reason`) };
				break;
			case 5:
				requireTrue(reader.number(), `${path}.in_progress`);
				outcome = { kind: "in-progress" };
				break;
			default:
				reader.skip();
		}
	}
	settlements.push({ deliveryId, outcome });
}

function requireTrue(value: number, field: string): void {
	if (value === 0) throw HubError.field(field, "must be true where it is set");
}

function readDelay(reader: WireReader, field: string): number | undefined {
	let delayMs: number | undefined;
	for (let number = reader.next(); number !== 0; number = reader.next()) {
		if (number === 1) delayMs = readDuration(reader.nested());
		else reader.skip();
	}
	if (delayMs !== undefined && !(delayMs >= 0 && delayMs <= MAX_DELAY_MS))
		throw HubError.field(field, "must be 0 to 1 hour");
	return delayMs;
}

function readReason(reader: WireReader, field: string): string {
	let reason = "";
	for (let number = reader.next(); number !== 0; number = reader.next()) {
		if (number === 1) reason = bounded(reader, MAX_REASON_BYTES, field);
		else reader.skip();
	}
	return reason;
}

function readReply(reader: WireReader): ReplyView {
	let deliveryId = "";
	let reply: Uint8Array | undefined;
	for (let number = reader.next(); number !== 0; number = reader.next()) {
		if (number === 1) deliveryId = reader.string();
		else if (number === 2) reply = merged(reply, reader.view());
		else reader.skip();
	}
	return { deliveryId, reply };
}

/** An `AcknowledgeRequest`, or an `AcknowledgeEventsRequest`, which has the same fields. */
export interface AcknowledgeView {
	readonly sessionId: string;
	readonly settlements: readonly SettlementView[];
	/** Undefined: unchanged. */
	readonly maxInFlight: number | undefined;
}

export function readAcknowledge(bytes: Uint8Array): AcknowledgeView {
	const reader = new WireReader(bytes);
	const settlements: SettlementView[] = [];
	let sessionId = "";
	let maxInFlight: number | undefined;
	for (let number = reader.next(); number !== 0; number = reader.next()) {
		if (number === 1) sessionId = reader.string();
		else if (number === 2) addSettlement(settlements, reader.nested(), "deliveries");
		else if (number === 3) maxInFlight = readCredit(reader.nested(), "credit");
		else reader.skip();
	}
	if (sessionId === "") throw HubError.field("session_id", "is required");
	return { sessionId, settlements, maxInFlight };
}

/** A `ReplyRequest`. */
export function readReplyRequest(bytes: Uint8Array): ReplyView & { readonly sessionId: string } {
	const reader = new WireReader(bytes);
	let sessionId = "";
	let reply: ReplyView | undefined;
	for (let number = reader.next(); number !== 0; number = reader.next()) {
		if (number === 1) sessionId = reader.string();
		else if (number === 2) reply = readReply(reader.nested());
		else reader.skip();
	}
	if (sessionId === "") throw HubError.field("session_id", "is required");
	if (reply === undefined) throw HubError.field("reply", "is required");
	return { sessionId, ...reply };
}
