import { HubError } from "../hub-error.ts";
import { GlobAutomaton, type GlobToken } from "./glob-automaton.ts";

/** Bounds of one glob. */
export const GLOB_LIMITS = Object.freeze({
	/** Bytes of UTF-8. */
	bytes: 512,
	/** `*`, `**` and `?` together. */
	wildcards: 16,
});

/**
 * A glob over keys: `*` is any run of characters but `/`, `**` any run, `?` one character but `/`, `\` takes the next character as
 * it is. It matches whole keys, character by character (case counts, nothing is normalised).
 */
export class KeyGlob {
	readonly text: string;
	/** What every key begins with that the glob matches; all of the key where `isExact`. */
	readonly prefix: string;
	/** Whether `prefix` is the only key that it matches. */
	readonly isExact: boolean;
	readonly #tokens: readonly GlobToken[];
	/** What every key ends with that the glob matches; may overlap with `prefix`. */
	readonly #suffix: string;
	/** Of what is behind the prefix; made when it is first needed. */
	#automaton: GlobAutomaton | undefined;

	constructor(text: string, tokens: readonly GlobToken[]) {
		const [first] = tokens;
		const last = tokens.at(-1);
		this.text = text;
		this.prefix = typeof first === "object" ? first.text : "";
		this.#tokens = typeof first === "object" ? tokens.slice(1) : tokens;
		this.isExact = this.#tokens.length === 0;
		this.#suffix = typeof last === "object" ? last.text : "";
	}

	/** Whether the whole key matches. Takes a step for each character of the key and each 32 of the glob, at most. */
	matches(key: string): boolean {
		if (!key.startsWith(this.prefix)) return false;
		const tokens = this.#tokens;
		const start = this.prefix.length;
		if (tokens.length === 0) return key.length === start;
		if (tokens.length === 1) {
			if (tokens[0] === "**") return true;
			if (tokens[0] === "*") return !key.includes("/", start);
		}
		if (!key.endsWith(this.#suffix)) return false;
		this.#automaton ??= new GlobAutomaton(tokens);
		return this.#automaton.matches(key, start);
	}
}

/** Refuses with INVALID_FIELD, naming `field`: an empty glob, one past `GLOB_LIMITS`, and one that ends with a lone `\`. */
export function parseKeyGlob(text: string, field: string): KeyGlob {
	if (text === "") throw HubError.field(field, "is empty");
	if (new TextEncoder().encode(text).byteLength > GLOB_LIMITS.bytes) {
		throw HubError.field(field, `has more than ${GLOB_LIMITS.bytes} bytes`);
	}
	const tokens: GlobToken[] = [];
	let literal = "";
	const wildcard = (token: GlobToken) => {
		if (literal !== "") tokens.push({ text: literal });
		literal = "";
		tokens.push(token);
	};
	for (let at = 0; at < text.length; at++) {
		const character = text[at]!;
		if (character === "\\") {
			if (++at === text.length) throw HubError.field(field, "ends with a \\ that takes nothing");
			literal += text[at];
		} else if (character === "?") {
			wildcard("?");
		} else if (character === "*") {
			const isDouble = text[at + 1] === "*";
			if (isDouble) at++;
			wildcard(isDouble ? "**" : "*");
		} else literal += character;
	}
	if (literal !== "") tokens.push({ text: literal });
	if (tokens.filter((token) => typeof token === "string").length > GLOB_LIMITS.wildcards) {
		throw HubError.field(field, `has more than ${GLOB_LIMITS.wildcards} wildcards`);
	}
	return new KeyGlob(text, tokens);
}
