import { CONTENT_LIMITS } from "../content/content-limits.ts";
import { equalJson } from "../content/json-equality.ts";
import { checkJson } from "../content/json-structure.ts";
import { HubError } from "../hub-error.ts";

/** An integer as JSON writes it, and with nothing but zeros behind a point. */
const INTEGER = /^[ \t\r\n]*(-?(?:0|[1-9][0-9]{0,15}))(?:\.0+)?[ \t\r\n]*$/;
/** No spelling of such an integer that we read is longer. */
const MAX_INTEGER_TEXT = 128;
const MAX_INTEGER = BigInt(Number.MAX_SAFE_INTEGER);

/**
 * The JSON text `current` (undefined: 0) with `delta` added, and the number. Throws VALUE_MISMATCH where the text is no integer within
 * +-(2^53-1), written without an exponent; INVALID_FIELD, naming `field`, where delta or the sum is none.
 */
export function addedTo(current: string | undefined, delta: bigint, field: string): { text: string; number: number } {
	const before = current === undefined ? 0n : integer(current);
	if (before === undefined) throw mismatch("is no integer that can be added to");
	if (!isSafe(delta)) throw HubError.field(field, `must be within +-${MAX_INTEGER}`);
	const sum = before + delta;
	if (!isSafe(sum)) throw HubError.field(field, `the sum would not be within +-${MAX_INTEGER}`);
	return { text: String(sum), number: Number(sum) };
}

function integer(text: string): bigint | undefined {
	const digits = text.length > MAX_INTEGER_TEXT ? undefined : INTEGER.exec(text)?.[1];
	if (digits === undefined) return undefined;
	const value = BigInt(digits);
	return isSafe(value) ? value : undefined;
}

function isSafe(value: bigint): boolean {
	return value >= -MAX_INTEGER && value <= MAX_INTEGER;
}

/**
 * The JSON array `current` (undefined: an empty one) with the JSON text `element` at its end, unless an equal element is in it: then the
 * text as it is. What is there keeps its spelling. Equal is as in `equalJson`; of members of one name the last counts, and
 * numbers are doubles. Throws VALUE_MISMATCH where the text is no JSON array; INVALID_FIELD, naming `field`, where the element is no
 * JSON; INVALID_CONTENT where the result would exceed the bounds of content. Takes time linear in both texts.
 */
export function appendedTo(
	current: string | undefined,
	element: string,
	field: string,
): { text: string; changed: boolean } {
	const added = parse(element);
	if (added === undefined) throw HubError.field(field, "must be a JSON text");
	const array = current === undefined ? { value: [] } : parse(current);
	if (!Array.isArray(array?.value)) throw mismatch("is no JSON array");
	if (current !== undefined && array.value.some((item) => equalJson(item, added.value))) {
		return { text: current, changed: false };
	}
	const text = spliced(current ?? "[]", element.trim(), array.value.length === 0);
	if (Buffer.byteLength(text) > CONTENT_LIMITS.contentBytes) {
		throw new HubError("INVALID_CONTENT", `the array would have more than ${CONTENT_LIMITS.contentBytes} bytes`, {
			metadata: { field, limit: String(CONTENT_LIMITS.contentBytes) },
		});
	}
	const structure = checkJson(text);
	if (structure !== undefined) {
		throw new HubError("INVALID_CONTENT", `${field}: the array ${structure.problem}`, { metadata: { field } });
	}
	return { text, changed: true };
}

function spliced(array: string, element: string, isEmpty: boolean): string {
	const end = array.lastIndexOf("]");
	return `${array.slice(0, end)}${isEmpty ? "" : ","}${element}${array.slice(end)}`;
}

/** undefined where the text is no JSON, or nests deeper than content may. */
function parse(text: string): { readonly value: unknown } | undefined {
	if (checkJson(text) !== undefined) return undefined;
	try {
		return { value: JSON.parse(text) };
	} catch {
		return undefined;
	}
}

function mismatch(problem: string): HubError {
	return new HubError("VALUE_MISMATCH", `the value ${problem}`);
}
