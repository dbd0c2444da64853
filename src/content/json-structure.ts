import { CONTENT_LIMITS } from "./content-limits.ts";

/** What is wrong with a JSON text, and the byte (of its UTF-8 form, from 0) where that shows. */
export interface JsonProblem {
	readonly problem: string;
	readonly offset: number;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;

/** What is to close at each level. Each check writes before it reads and none waits, so all share it. */
const CLOSERS = new Uint8Array(CONTENT_LIMITS.jsonDepth);

/**
 * Looks at the structure of a JSON text without parsing it: brackets pair up and nest at most `maxDepth` deep, strings
 * end, there is something, and nothing follows a closed root. undefined where all of that holds; what stands between is
 * not looked at, so an accepted text may still be no JSON. One pass, about 1 ns a byte.
 */
export function checkJson(
	text: string | Uint8Array,
	maxDepth: number = CONTENT_LIMITS.jsonDepth,
): JsonProblem | undefined {
	const bytes = typeof text === "string" ? Buffer.from(text) : text;
	const end = bytes.length;
	const closers = maxDepth <= CLOSERS.length ? CLOSERS : new Uint8Array(maxDepth);
	let depth = 0;
	let first = -1;
	let at = 0;
	for (; at < end; at++) {
		const byte = bytes[at]!;
		if (byte === QUOTE) {
			const start = at++;
			while (at < end && bytes[at] !== QUOTE) at += bytes[at] === BACKSLASH ? 2 : 1;
			if (at >= end) return { problem: "a string does not end", offset: start };
			if (first < 0) first = start;
		} else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) {
			if (depth === maxDepth) return { problem: `nests deeper than ${maxDepth} levels`, offset: at };
			closers[depth++] = byte === OPEN_BRACE ? CLOSE_BRACE : CLOSE_BRACKET;
			if (first < 0) first = at;
		} else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) {
			if (depth === 0 || closers[depth - 1] !== byte) {
				return { problem: `"${String.fromCharCode(byte)}" closes nothing`, offset: at };
			}
			if (--depth === 0) break;
		} else if (first < 0 && !isSpace(byte)) {
			first = at;
		}
	}
	if (depth > 0) {
		return { problem: `"${String.fromCharCode(closers[depth - 1]!)}" is missing at the end`, offset: end };
	}
	if (first < 0) return { problem: "is empty", offset: 0 };
	for (at++; at < end; at++) {
		if (!isSpace(bytes[at]!)) return { problem: "goes on after its end", offset: at };
	}
	return undefined;
}

function isSpace(byte: number): boolean {
	return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
}
