import Range from "semver/classes/range.js";
import type SemVer from "semver/classes/semver.js";
import parse from "semver/functions/parse.js";
import { HubError } from "../hub-error.ts";

/** The most characters that a version or range may have. */
export const MAX_VERSION_LENGTH = 256;

/** A semantic version, parsed. */
export type Version = SemVer;

interface Bound {
	readonly operator: string;
	readonly version: Version;
}

/** Which versions are wanted, parsed. */
export interface VersionRange {
	/** As it was given. */
	readonly text: string;
	/** Alternatives, each a list of bounds that must all hold; an empty list holds always. */
	readonly alternatives: readonly (readonly Bound[])[];
}

const PLAIN = /^v?(\d+)\.(\d+)\.\d+$/;

/** A version as semver.org writes it; a leading `v` is ignored. Refuses with INVALID_FIELD, naming `field`. */
export function parseVersion(text: string, field: string): Version {
	const problem = lengthProblem(text, "a version");
	if (problem !== undefined) throw HubError.field(field, problem);
	const version = parse(text);
	if (version === null) throw HubError.field(field, `"${shown(text)}" is not a semantic version such as 1.4.0`);
	return version;
}

/**
 * A range as npm writes it, but for a plain `X.Y.Z`, which means compatible with it: `>=X.Y.0 <(X+1).0.0-0`, for X = 0
 * too. A pre-release is inside a range where semver's order puts it, so `>=1.0.0` admits `1.1.0-rc.1` and not
 * `1.0.0-rc.1`. Refuses with INVALID_FIELD, naming `field`.
 */
export function parseRange(text: string, field: string): VersionRange {
	const trimmed = text.trim();
	const problem = lengthProblem(trimmed, 'a range ("*" for any version)');
	if (problem !== undefined) throw HubError.field(field, problem);
	const plain = PLAIN.exec(trimmed);
	const written = plain === null ? trimmed : `>=${plain[1]}.${plain[2]}.0 <${Number(plain[1]) + 1}.0.0-0`;
	let range: Range;
	try {
		range = new Range(written, { includePrerelease: true });
	} catch (cause) {
		const description = `"${shown(trimmed)}" is not a version range such as ^1.4.0 or >=1.2.0 <3.0.0`;
		throw new HubError("INVALID_FIELD", `${field}: ${description}`, {
			metadata: { field },
			violations: [{ field, description }],
			cause,
		});
	}
	const alternatives = range.set.map((bounds) =>
		bounds
			.filter((bound) => bound.semver.version !== undefined)
			.map((bound) => ({ operator: bound.operator as string, version: bound.semver })),
	);
	return { text, alternatives };
}

/** Whether the version is inside the range. Tens of nanoseconds. */
export function satisfies(version: Version, range: VersionRange): boolean {
	for (const bounds of range.alternatives) {
		let inside = true;
		for (let index = 0; inside && index < bounds.length; index++) inside = holds(version, bounds[index]!);
		if (inside) return true;
	}
	return false;
}

function holds(version: Version, bound: Bound): boolean {
	const order = compareVersions(version, bound.version);
	switch (bound.operator) {
		case ">=":
			return order >= 0;
		case ">":
			return order > 0;
		case "<":
			return order < 0;
		case "<=":
			return order <= 0;
		default:
			return order === 0;
	}
}

/** Negative, zero or positive as semver orders the two; build metadata does not count. */
export function compareVersions(left: Version, right: Version): number {
	return (
		left.major - right.major ||
		left.minor - right.minor ||
		left.patch - right.patch ||
		(left.prerelease.length === 0 && right.prerelease.length === 0 ? 0 : left.comparePre(right))
	);
}

function lengthProblem(text: string, what: string): string | undefined {
	if (text === "") return `is empty; expected ${what}`;
	if (text.length > MAX_VERSION_LENGTH) {
		return `has ${text.length} characters; at most ${MAX_VERSION_LENGTH} are allowed`;
	}
	return undefined;
}

function shown(text: string): string {
	return text.length > 64 ? `${text.slice(0, 64)}...` : text;
}
