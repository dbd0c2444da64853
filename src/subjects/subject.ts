import { HubError } from "../hub-error.ts";
import { lengthProblem, MAX_TOKENS, splitTokens, tokenProblem } from "./token.ts";

/** An event type or topic. `a.b` and `a:b` are one subject with two spellings. */
export interface Subject {
	/** As the caller wrote it; what recipients are shown. */
	readonly spelling: string;
	/** The tokens joined by `.`: what subjects are compared, matched and stored by. */
	readonly canonical: string;
	readonly tokens: readonly string[];
}

const SUBJECT = /^[A-Za-z0-9_-]{1,64}(?:[.:][A-Za-z0-9_-]{1,64}){0,15}$/;

const CACHED_PER_GENERATION = 2048;
const CACHED_LENGTH = 128;

/**
 * Remembered subjects, in two generations: when the young one is full it becomes the old one, and what is asked for
 * again moves back. Holds at most 4,096 subjects of at most 128 characters, about 2 MiB.
 */
let young = new Map<string, Subject>();
let old = new Map<string, Subject>();

/**
 * 1 to 16 tokens of `[A-Za-z0-9_-]{1,64}`, split by `.` or `:`. Refuses with INVALID_EVENT_TYPE, naming `field`, the
 * token and what is wrong with it. A type seen lately costs one map lookup.
 */
export function parseSubject(text: string, field: string): Subject {
	const known = young.get(text);
	if (known !== undefined) return known;
	const subject = old.get(text) ?? read(text, field);
	if (text.length <= CACHED_LENGTH) {
		if (young.size >= CACHED_PER_GENERATION) {
			old = young;
			young = new Map();
		}
		young.set(text, subject);
	}
	return subject;
}

function read(text: string, field: string): Subject {
	if (!SUBJECT.test(text)) throw HubError.field(field, subjectProblem(text), "INVALID_EVENT_TYPE");
	const canonical = text.includes(":") ? text.replaceAll(":", ".") : text;
	return Object.freeze({ spelling: text, canonical, tokens: Object.freeze(canonical.split(".")) });
}

function subjectProblem(text: string): string {
	const problem = lengthProblem(text, "an event type");
	if (problem !== undefined) return problem;
	const tokens = splitTokens(text);
	for (const [index, token] of tokens.entries()) {
		const problem = tokenProblem(token, index);
		if (problem !== undefined) return problem;
	}
	return `has ${tokens.length} tokens; at most ${MAX_TOKENS} are allowed`;
}

const LIFECYCLE_TYPES: ReadonlySet<string> = new Set(
	["registered", "updated", "online", "offline", "enabled", "disabled", "unregistered"].map((what) => `plugin.${what}`),
);

/** Whether only the hub may emit this type (`plugin:registered` and its six siblings, in either spelling). */
export function isLifecycleType(subject: Subject): boolean {
	return LIFECYCLE_TYPES.has(subject.canonical);
}
