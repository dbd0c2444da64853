/** The most tokens that an event type, topic or pattern may have. */
export const MAX_TOKENS = 16;

/** The most characters that one token may have. */
export const MAX_TOKEN_LENGTH = 64;

/** The most characters that a whole event type, topic or pattern may have, separators included. */
export const MAX_SUBJECT_LENGTH = MAX_TOKENS * MAX_TOKEN_LENGTH + MAX_TOKENS - 1;

/** Splits at either separator. */
export function splitTokens(text: string): string[] {
	return text.split(/[.:]/);
}

/** What keeps the whole text from being a subject or pattern, before its tokens are looked at. */
export function lengthProblem(text: string, what: string): string | undefined {
	if (text === "") return `is empty; ${what} has 1 to ${MAX_TOKENS} tokens`;
	if (text.length > MAX_SUBJECT_LENGTH) {
		return `has ${text.length} characters; at most ${MAX_SUBJECT_LENGTH} are allowed`;
	}
	return undefined;
}

/** What keeps one of the tokens from being a plain token. `index` counts from 0. */
export function tokenProblem(token: string, index: number): string | undefined {
	const name = `token ${index + 1}`;
	if (token === "") return `${name} is empty`;
	const at = token.search(/[^A-Za-z0-9_-]/);
	if (at >= 0) {
		const character = String.fromCodePoint(token.codePointAt(at)!);
		return `${name} has ${JSON.stringify(character)}; a token is made of A-Z, a-z, 0-9, "_" and "-"`;
	}
	if (token.length > MAX_TOKEN_LENGTH) {
		return `${name} has ${token.length} characters; at most ${MAX_TOKEN_LENGTH} are allowed`;
	}
	return undefined;
}
