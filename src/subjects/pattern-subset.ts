import type { Pattern } from "./pattern.ts";

/**
 * Whether every subject that `inner` matches is matched by `outer` too: `a.b` and `a.*` are inside `a.**`, `a.**` (which
 * matches `a` itself) is not inside `a.*`.
 */
export function isSubset(inner: Pattern, outer: Pattern): boolean {
	const wanted = atLeastOne(inner);
	const allowed = atLeastOne(outer);
	if (outer.open ? wanted.length < allowed.length : inner.open || wanted.length !== allowed.length) return false;
	for (let index = 0; index < allowed.length; index++) {
		if (allowed[index] !== "*" && allowed[index] !== wanted[index]) return false;
	}
	return true;
}

/**
 * Whether one of the grants alone covers all of `inner`. Grants that only together cover it do not count: deciding that
 * is exponential in the number of tokens, and an operator who reads the grants one by one sees the same answer.
 */
export function isCovered(inner: Pattern, grants: Iterable<Pattern>): boolean {
	for (const grant of grants) if (isSubset(inner, grant)) return true;
	return false;
}

const ANY_TOKEN: readonly string[] = Object.freeze(["*"]);

/** No subject is empty, so `**` and `*.**` match the same. */
function atLeastOne(pattern: Pattern): readonly string[] {
	return pattern.prefix.length === 0 ? ANY_TOKEN : pattern.prefix;
}
