import type { CelValue } from "@bufbuild/cel";
import type { CelEngine } from "./expression-budget.ts";

/** The most values (elements, members and scalars) that JSON may hold for an expression to read it. */
const MAX_VALUES = 10_000;
const MAX_DEPTH = 64;

/**
 * Turns parsed JSON into a value of the engine. Members go into a `Map`, so no name among them is special. Throws where there
 * is more than an expression may read; `what` names it then.
 */
export function readJson(engine: CelEngine, json: unknown, what: string): CelValue {
	let left = MAX_VALUES;
	const read = (value: unknown, depth: number): CelValue => {
		if (--left < 0) throw new Error(`${what} holds more than ${MAX_VALUES} values`);
		if (value === null || typeof value !== "object") return value as CelValue;
		if (depth >= MAX_DEPTH) throw new Error(`${what} nests deeper than ${MAX_DEPTH} levels`);
		if (Array.isArray(value)) return engine.celList(value.map((item) => read(item, depth + 1)));
		const members = new Map<string, CelValue>();
		for (const [name, member] of Object.entries(value)) members.set(name, read(member, depth + 1));
		return engine.celMap(members);
	};
	return read(json, 0);
}
