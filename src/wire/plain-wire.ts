import { type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";
import { isText } from "./utf8.ts";

/** What a field's bytes must look like. */
type Kind = "word" | "long" | "boolean" | "fixed64" | "fixed32" | "text" | "bytes" | "message";

interface FieldShape {
	readonly kind: Kind;
	/** Varint 0, 64 bits 1, delimited 2, 32 bits 5. */
	readonly wireType: number;
	/** The bit that says that it was seen, the same for all members of a oneof; 0: it may come again. */
	readonly bit: number;
	readonly message: readonly (FieldShape | undefined)[] | undefined;
}

const VARINT = 0;
const FIXED64 = 1;
const DELIMITED = 2;
const FIXED32 = 5;
const NOT_PLAIN = -1;

/** Fields of one message that can be told apart as seen; the last bit is shared by those beyond. */
const MAX_BITS = 30;

/** By message type, so as many as there are in the schemas. */
const shapes = new WeakMap<DescMessage, (FieldShape | undefined)[]>();

/**
 * Whether every reader gets the same from the encoding: nested messages end where they say, each known field has its own
 * wire type and comes once, numbers are within their type, text is UTF-8, and there are no groups. Where it is false, the
 * bytes may still be a message; decoding and encoding them again tells, and settles what they say.
 */
export function isPlain(schema: DescMessage, bytes: Uint8Array): boolean {
	return check(shapeOf(schema), bytes, 0, bytes.byteLength);
}

function check(fields: readonly (FieldShape | undefined)[], bytes: Uint8Array, start: number, end: number): boolean {
	let at = start;
	let seen = 0;
	while (at < end) {
		let tag = bytes[at]!;
		if (tag < 0x80) {
			at++;
		} else {
			const tagEnd = varintEnd(bytes, at, end);
			if (tagEnd === NOT_PLAIN || tagEnd - at > 5 || (tagEnd - at === 5 && bytes[at + 4]! > 0x0f)) return false;
			tag = varint32(bytes, at, tagEnd);
			at = tagEnd;
		}
		const number = tag >>> 3;
		const wireType = tag & 7;
		const field = fields[number];
		if (field !== undefined) {
			if (field.wireType !== wireType || (seen & field.bit) !== 0) return false;
			seen |= field.bit;
		} else if (number === 0) {
			return false;
		}
		switch (wireType) {
			case VARINT: {
				const valueEnd = varintEnd(bytes, at, end);
				if (valueEnd === NOT_PLAIN || (field !== undefined && !fits(field.kind, bytes, at, valueEnd))) return false;
				at = valueEnd;
				break;
			}
			case DELIMITED: {
				const lengthEnd = varintEnd(bytes, at, end);
				if (lengthEnd === NOT_PLAIN || lengthEnd - at > 4) return false;
				const to = lengthEnd + varint32(bytes, at, lengthEnd);
				if (to > end) return false;
				if (field?.message !== undefined) {
					if (!check(field.message, bytes, lengthEnd, to)) return false;
				} else if (field?.kind === "text" && !isText(bytes, lengthEnd, to)) return false;
				at = to;
				break;
			}
			case FIXED64:
			case FIXED32:
				at += wireType === FIXED64 ? 8 : 4;
				if (at > end) return false;
				break;
			default:
				return false;
		}
	}
	return true;
}

/** Where the varint at `at` ends; `NOT_PLAIN` where it is cut short or longer than 64 bits. */
function varintEnd(bytes: Uint8Array, at: number, end: number): number {
	for (let next = at; next < end; next++) {
		if (bytes[next]! < 0x80) return next - at < 9 || (next - at === 9 && bytes[next]! === 1) ? next + 1 : NOT_PLAIN;
	}
	return NOT_PLAIN;
}

/** The varint that fills `[at, end)`, of which 32 bits count. */
function varint32(bytes: Uint8Array, at: number, end: number): number {
	let value = 0;
	for (let next = end - 1; next >= at; next--) value = (value << 7) | (bytes[next]! & 0x7f);
	return value >>> 0;
}

function fits(kind: Kind, bytes: Uint8Array, at: number, end: number): boolean {
	if (kind === "boolean") return end - at === 1 && bytes[at]! <= 1;
	if (kind === "word") return end - at < 5 || (end - at === 5 && bytes[at + 4]! <= 0x0f);
	return true;
}

function shapeOf(schema: DescMessage): readonly (FieldShape | undefined)[] {
	let fields = shapes.get(schema);
	if (fields !== undefined) return fields;
	fields = [];
	// Before its fields: a message may hold its like.
	shapes.set(schema, fields);
	const bits = new Map<string, number>();
	for (const field of schema.fields) {
		const owner = field.oneof?.name ?? field.name;
		const bit = bits.get(owner) ?? 1 << Math.min(bits.size, MAX_BITS);
		bits.set(owner, bit);
		const isRepeated = field.fieldKind === "list" || field.fieldKind === "map";
		fields[field.number] = fieldShape(field, isRepeated ? 0 : bit);
	}
	return fields;
}

function fieldShape(field: DescField, bit: number): FieldShape {
	if (field.fieldKind === "map") {
		const value = field.mapKind === "message" ? shapeOf(field.message) : undefined;
		const entry: (FieldShape | undefined)[] = [];
		entry[1] = scalarShape(field.mapKey, 1);
		entry[2] = value === undefined ? scalarShape(field.scalar ?? ScalarType.INT32, 2) : messageShape(value, 2);
		return messageShape(entry, bit);
	}
	if (field.message !== undefined) return messageShape(shapeOf(field.message), bit);
	return scalarShape(field.scalar ?? ScalarType.INT32, bit);
}

function messageShape(message: readonly (FieldShape | undefined)[], bit: number): FieldShape {
	return { kind: "message", wireType: DELIMITED, bit, message };
}

function scalarShape(type: ScalarType, bit: number): FieldShape {
	const kind = kindOf(type);
	return { kind, wireType: WIRE_TYPES[kind], bit, message: undefined };
}

const WIRE_TYPES: Readonly<Record<Kind, number>> = {
	word: VARINT,
	long: VARINT,
	boolean: VARINT,
	fixed64: FIXED64,
	fixed32: FIXED32,
	text: DELIMITED,
	bytes: DELIMITED,
	message: DELIMITED,
};

function kindOf(type: ScalarType): Kind {
	switch (type) {
		case ScalarType.STRING:
			return "text";
		case ScalarType.BYTES:
			return "bytes";
		case ScalarType.BOOL:
			return "boolean";
		case ScalarType.INT64:
		case ScalarType.UINT64:
		case ScalarType.SINT64:
			return "long";
		case ScalarType.DOUBLE:
		case ScalarType.FIXED64:
		case ScalarType.SFIXED64:
			return "fixed64";
		case ScalarType.FLOAT:
		case ScalarType.FIXED32:
		case ScalarType.SFIXED32:
			return "fixed32";
		default:
			return "word";
	}
}
