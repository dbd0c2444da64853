import { HubError } from "../hub-error.ts";

/** Bounds of one glob. */
export const GLOB_LIMITS = Object.freeze({
	/** Bytes of UTF-8. */
	bytes: 512,
	/** `*`, `**` and `?` together. */
	wildcards: 16,
});

/** A text that must stand there, or a wildcard. */
type Token = { readonly text: string } | "*" | "**" | "?";

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
	readonly #tokens: readonly Token[];
	/** What every key ends with that the glob matches; may overlap with `prefix`. */
	readonly #suffix: string;

	constructor(text: string, tokens: readonly Token[]) {
		const [first] = tokens;
		const last = tokens.at(-1);
		this.text = text;
		this.prefix = typeof first === "object" ? first.text : "";
		this.#tokens = typeof first === "object" ? tokens.slice(1) : tokens;
		this.isExact = this.#tokens.length === 0;
		this.#suffix = typeof last === "object" ? last.text : "";
	}

	/** Whether the whole key matches. Takes time linear in the key for each wildcard at most. */
	matches(key: string): boolean {
		if (!key.startsWith(this.prefix)) return false;
		const tokens = this.#tokens;
		const start = this.prefix.length;
		if (tokens.length === 0) return key.length === start;
		if (tokens.length === 1) {
			if (tokens[0] === "**") return true;
			if (tokens[0] === "*") return !key.includes("/", start);
		}
		return key.endsWith(this.#suffix) && reaches(key, start, tokens);
	}
}

/** Refuses with INVALID_FIELD, naming `field`: an empty glob, one past `GLOB_LIMITS`, and one that ends with a lone `\`. */
export function parseKeyGlob(text: string, field: string): KeyGlob {
	if (text === "") throw HubError.field(field, "is empty");
	if (new TextEncoder().encode(text).byteLength > GLOB_LIMITS.bytes) {
		throw HubError.field(field, `has more than ${GLOB_LIMITS.bytes} bytes`);
	}
	const tokens: Token[] = [];
	let literal = "";
	const wildcard = (token: Token) => {
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

/** Follows all ways at once: after each token, the places in the key where what is before may end. */
function reaches(key: string, start: number, tokens: readonly Token[]): boolean {
	const end = key.length;
	let places = new Uint8Array(end + 1);
	places[start] = 1;
	for (const token of tokens) {
		const next = new Uint8Array(end + 1);
		let isOpen = false;
		let isAnywhere = false;
		for (let at = start; at <= end; at++) {
			if (token === "*" || token === "**") {
				isOpen ||= places[at] === 1;
				if (isOpen) {
					next[at] = 1;
					isAnywhere = true;
				}
				// A run goes on behind a `/` only if it may hold one.
				if (token === "*" && key[at] === "/") isOpen = false;
			} else if (places[at] === 1) {
				const to = token === "?" ? afterOne(key, at) : key.startsWith(token.text, at) ? at + token.text.length : -1;
				if (to < 0) continue;
				next[to] = 1;
				isAnywhere = true;
			}
		}
		if (!isAnywhere) return false;
		places = next;
	}
	return places[end] === 1;
}

/** The place behind one character that is no `/`; -1 where there is none. */
function afterOne(key: string, at: number): number {
	const character = key.codePointAt(at);
	if (character === undefined || character === 0x2f) return -1;
	return at + (character > 0xffff ? 2 : 1);
}
