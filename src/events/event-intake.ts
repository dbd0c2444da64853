import { createHash } from "node:crypto";
import { type DescMessage, fromBinary, toBinary } from "@bufbuild/protobuf";
import { EmitRequestSchema, EmitStreamRequestSchema, EventSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import type { IdSource } from "../clock/clock.ts";
import { CONTENT_LIMITS } from "../content/content-limits.ts";
import { HubError } from "../hub-error.ts";
import { LOG_LIMITS, type LogRecord } from "../state/log-store.ts";
import { isLifecycleType, type Subject } from "../subjects/subject.ts";
import { isPlain } from "../wire/plain-wire.ts";
import { exactVarint } from "../wire/varint.ts";
import { lengthDelimited } from "../wire/wire-writer.ts";
import { EventScanner } from "./event-scanner.ts";

/** What a policy may look at of an event that is about to be published. Valid during the check only. */
export interface EventContent {
	/** Bytes of the payload, attribute keys and attribute values. */
	readonly bytes: number;
	readonly contentType: string;
	/** The payload's JSON text; undefined where it has none. */
	readonly json: Uint8Array | undefined;
}

/** What its publisher may publish. */
export interface EmitPolicy {
	/** Throws a `HubError` for what it may not. */
	check(subject: Subject, content: EventContent): void;
	/** Told of an event that named somebody else as its source, and was refused for it. */
	spoofed(error: HubError): void;
}

/** One entry of a batch: what to store, or why not. */
export type IntakeEntry = IntakeRecord | HubError;

/** An event in its stored form. */
export interface IntakeRecord extends LogRecord {
	/** The event's id, without its source. */
	readonly eventId: string;
}

/** A batch as it was sent, each entry checked. */
export interface IntakeBatch {
	readonly batchId: bigint;
	readonly entries: readonly IntakeEntry[];
	/** Bytes of the request. */
	readonly bytes: number;
}

interface Framing {
	readonly schema: DescMessage;
	/** The tag of the field that holds events. */
	readonly eventTag: number;
}

const UNARY: Framing = { schema: EmitRequestSchema, eventTag: 0x0a };
const BATCH: Framing = { schema: EmitStreamRequestSchema, eventTag: 0x12 };

const NO_POLICY: EmitPolicy = {
	check() {
		throw new Error("an event was read without a policy");
	},
	spoofed() {},
};

/** Room for an id of the hub's making: tag, length and 36 characters. */
const MADE_ID_BYTES = 38;

/**
 * Turns one publisher's requests, in wire form, into records for the log. The stored bytes are the publisher's own, and
 * after them the id where the hub made it, and the source. Holds nothing between two requests, so all calls of a publisher
 * may share one.
 */
export class EventIntake {
	readonly #publisherId: string;
	readonly #source: Uint8Array;
	readonly #ids: IdSource;
	#policy: EmitPolicy = NO_POLICY;
	readonly #scanner: EventScanner;
	#starts = new Uint32Array(1);
	#ends = new Uint32Array(1);
	#count = 0;
	#batchId = 0n;
	/** The last type found not to be reserved. */
	#admitted: Subject | undefined;
	#index = -1;
	#target: Buffer = Buffer.alloc(0);
	#used = 0;
	readonly #field = (name: string) => (this.#index < 0 ? `event.${name}` : `events[${this.#index}].${name}`);

	constructor(publisherId: string, ids: IdSource) {
		this.#publisherId = publisherId;
		this.#ids = ids;
		this.#scanner = new EventScanner(publisherId);
		this.#source = lengthDelimited(16, Buffer.from(publisherId));
	}

	/** An `EmitRequest`. Throws what is wrong with it. */
	readOne(request: Uint8Array, policy: EmitPolicy): IntakeRecord {
		try {
			return this.#readOne(request, policy);
		} catch (error) {
			// Where readers may differ about the bytes, the one that all share says what they are.
			if (isPlain(UNARY.schema, request)) throw error;
			return this.#readOne(reencode(UNARY.schema, request), policy);
		}
	}

	#readOne(request: Uint8Array, policy: EmitPolicy): IntakeRecord {
		this.#policy = policy;
		const bytes = this.#frame(request, UNARY, 1);
		if (this.#count === 0) throw HubError.field("event", "is required");
		this.#index = -1;
		this.#reserve(bytes);
		const entry = this.#readEvent(bytes, this.#starts[0]!, this.#ends[0]!);
		if (entry instanceof HubError) throw entry;
		return entry;
	}

	/**
	 * An `EmitStreamRequest`. An entry that is refused becomes its error; throws MALFORMED_REQUEST where the request cannot
	 * be read, INVALID_FIELD where it holds no event or too many.
	 */
	readBatch(request: Uint8Array, policy: EmitPolicy): IntakeBatch {
		let batch: IntakeBatch | undefined;
		let failure: unknown;
		try {
			batch = this.#readBatch(request, policy);
		} catch (error) {
			failure = error;
		}
		const isRefused = batch === undefined || batch.entries.some((entry) => entry instanceof HubError);
		if (isRefused && !isPlain(BATCH.schema, request)) {
			return this.#readBatch(reencode(BATCH.schema, request), policy);
		}
		if (batch === undefined) throw failure;
		return batch;
	}

	#readBatch(request: Uint8Array, policy: EmitPolicy): IntakeBatch {
		this.#policy = policy;
		if (request.byteLength > CONTENT_LIMITS.batchBytes) {
			throw HubError.field("events", `hold more than ${CONTENT_LIMITS.batchBytes} bytes`);
		}
		if (this.#starts.length < CONTENT_LIMITS.batchEntries) {
			this.#starts = new Uint32Array(CONTENT_LIMITS.batchEntries);
			this.#ends = new Uint32Array(CONTENT_LIMITS.batchEntries);
		}
		const bytes = this.#frame(request, BATCH, CONTENT_LIMITS.batchEntries);
		if (this.#count === 0) throw HubError.field("events", "is empty; a batch has 1 to 1000 events");
		this.#reserve(bytes);
		const entries = new Array<IntakeEntry>(this.#count);
		for (let index = 0; index < this.#count; index++) {
			this.#index = index;
			entries[index] = this.#readEvent(bytes, this.#starts[index]!, this.#ends[index]!);
		}
		return { batchId: this.#batchId, entries, bytes: request.byteLength };
	}

	/** One allocation for all that the request stores. */
	#reserve(bytes: Uint8Array): void {
		this.#target = Buffer.allocUnsafeSlow(bytes.byteLength + this.#count * (this.#source.byteLength + MADE_ID_BYTES));
		this.#used = 0;
	}

	/** Finds the events of a request; gives the bytes that they were found in. */
	#frame(request: Uint8Array, framing: Framing, maxEvents: number): Uint8Array {
		if (this.#findEvents(request, framing, maxEvents)) return request;
		const again = reencode(framing.schema, request);
		if (!this.#findEvents(again, framing, maxEvents))
			throw new HubError("MALFORMED_REQUEST", "the request cannot be read");
		return again;
	}

	/** False where the request has to be encoded anew: fields not known, or a second event where there is one. */
	#findEvents(bytes: Uint8Array, framing: Framing, maxEvents: number): boolean {
		const end = bytes.byteLength;
		this.#count = 0;
		this.#batchId = 0n;
		let at = 0;
		while (at < end) {
			const tag = bytes[at++]!;
			if (tag !== framing.eventTag && (framing !== BATCH || tag !== 0x08)) return false;
			let value = 0;
			let scale = 1;
			const from = at;
			for (;;) {
				if (at >= end || at - from > 9) throw new HubError("MALFORMED_REQUEST", "the request ends within a number");
				const byte = bytes[at++]!;
				value += (byte & 0x7f) * scale;
				scale *= 128;
				if (byte < 0x80) break;
			}
			if (tag !== framing.eventTag) {
				this.#batchId = Number.isSafeInteger(value) ? BigInt(value) : exactVarint(bytes, from, at);
				continue;
			}
			if (value > end - at) throw new HubError("MALFORMED_REQUEST", "an event ends beyond its request");
			if (this.#count === maxEvents) {
				if (framing === UNARY) return false;
				throw HubError.field("events", `has more than ${maxEvents} events`);
			}
			this.#starts[this.#count] = at;
			at += value;
			this.#ends[this.#count++] = at;
		}
		return true;
	}

	#readEvent(bytes: Uint8Array, start: number, end: number): IntakeEntry {
		const scanner = this.#scanner;
		try {
			let from = start;
			let to = end;
			let source = bytes;
			let target = this.#target;
			if (!scanner.scan(bytes, start, end, this.#field)) {
				source = reencode(EventSchema, bytes.subarray(start, end));
				from = 0;
				to = source.byteLength;
				if (!scanner.scan(source, from, to, this.#field)) {
					throw new HubError("MALFORMED_REQUEST", "an event cannot be read");
				}
				// A sane encoding is not longer; whatever this one grows by must not come out of its neighbours' room.
				if (to > end - start) target = Buffer.allocUnsafeSlow(to + this.#source.byteLength + MADE_ID_BYTES);
			}
			this.#checkPolicy(scanner);
			if (scanner.subject !== this.#admitted) this.#refuseReserved(scanner.subject);
			if (scanner.bytes > CONTENT_LIMITS.contentBytes) throw this.#tooLarge(scanner.bytes);
			return this.#store(source, from, to, target);
		} catch (error) {
			if (error instanceof HubError && error.reason === "SPOOFED_SOURCE") this.#policy.spoofed(error);
			if (error instanceof HubError && (error.reason !== "MALFORMED_REQUEST" || this.#index < 0)) return error;
			throw error;
		}
	}

	#store(bytes: Uint8Array, start: number, end: number, target: Buffer): IntakeRecord {
		const own = target === this.#target;
		const first = own ? this.#used : 0;
		let at = first;
		target.set(start === 0 && end === bytes.byteLength ? bytes : bytes.subarray(start, end), at);
		at += end - start;
		let eventId = this.#scanner.id;
		const made = eventId === "";
		if (made) {
			eventId = this.#ids.next();
			target[at] = 0x0a;
			target[at + 1] = eventId.length;
			target.write(eventId, at + 2, "latin1");
			at += 2 + eventId.length;
		}
		if (!this.#scanner.hasSource) {
			target.set(this.#source, at);
			at += this.#source.byteLength;
		}
		if (own) this.#used = at;
		return {
			id: recordId(this.#publisherId, eventId),
			eventId,
			remember: !made,
			topic: this.#scanner.subject.canonical,
			bytes: target.subarray(first, at),
		};
	}

	/** A policy knows an event's content, not where in a request it stands. */
	#checkPolicy(scanner: EventScanner): void {
		try {
			this.#policy.check(scanner.subject, scanner);
		} catch (error) {
			throw error instanceof HubError ? error.placed(this.#field) : error;
		}
	}

	/** Whatever the policy says, what only the hub may publish is told apart by its type alone. */
	#refuseReserved(subject: Subject): void {
		if (isLifecycleType(subject)) {
			throw HubError.field(this.#field("type"), "only the hub emits lifecycle events", "RESERVED_EVENT_TYPE");
		}
		this.#admitted = subject;
	}

	#tooLarge(bytes: number): HubError {
		const most = CONTENT_LIMITS.contentBytes;
		const message = `payload and attributes have ${bytes} bytes; at most ${most} are allowed`;
		return HubError.field(this.#field("payload"), message, "INVALID_CONTENT");
	}
}

/**
 * The id under which the log remembers an event: unique among all sources. Where the two together are longer than a log
 * takes, a digest that no plugin id can begin like.
 */
export function recordId(source: string, eventId: string): string {
	const id = `${source}/${eventId}`;
	if (id.length * 3 <= LOG_LIMITS.idBytes || Buffer.byteLength(id) <= LOG_LIMITS.idBytes) return id;
	return `#${createHash("sha256").update(id).digest("base64url")}`;
}

/** The same message in the one encoding that every decoder reads alike, without what this hub does not know. */
function reencode(schema: DescMessage, bytes: Uint8Array): Uint8Array {
	try {
		return toBinary(schema, fromBinary(schema, bytes, { readUnknownFields: false }), { writeUnknownFields: false });
	} catch (error) {
		throw new HubError("MALFORMED_REQUEST", `the request is not a ${schema.typeName}`, { cause: error });
	}
}
