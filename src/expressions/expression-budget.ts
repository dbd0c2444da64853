import type { CelFunc, CelList, CelResult, CelValue } from "@bufbuild/cel";
import { DurationSchema, TimestampSchema } from "@bufbuild/protobuf/wkt";

/** The engine, loaded when the first expression is compiled: it costs a start about 100 ms. */
export type CelEngine = typeof import("@bufbuild/cel");

/** The function that charges a macro's list before the loop runs. Its name cannot be written in an expression. */
export const CHARGE = "@charge";
/** The function that ends a macro's loop once the budget is spent. Its name cannot be written in an expression. */
export const WITHIN = "@within";

/**
 * One unit is about 50 ns of work, and 200 ns where every step fails, so that an evaluation ends after about 20 ms at
 * worst, whatever the expression and what it is about.
 */
const UNITS = 100_000;
/** The most characters or bytes that `+` may make. */
const MAX_JOINED = 65_536;
/** The most characters that a conversion to a number, time or duration reads. */
const MAX_CONVERTED = 64;
/** Characters or bytes that are compared or copied for one unit. */
const PER_UNIT = 64;

/** What one evaluation may still spend. Evaluations are synchronous and never nest, so one budget serves them all. */
export class ExpressionBudget {
	#left = UNITS;
	#tooCostly = "";

	/** `tooCostly` is what an evaluation that costs too much fails with. */
	reset(tooCostly: string): void {
		this.#left = UNITS;
		this.#tooCostly = tooCostly;
	}

	/** Throws once the evaluation has cost more than it may. */
	spend(units: number): void {
		this.#left -= units;
		if (this.#left < 0) throw new Error(this.#tooCostly);
	}

	/** Spends for every value inside `value`. */
	spendOn(value: unknown, list: (value: unknown) => value is Iterable<unknown>): void {
		if (typeof value === "string" || value instanceof Uint8Array) {
			this.spend(1 + value.length / PER_UNIT);
		} else if (list(value)) {
			this.spend(1);
			for (const inner of value) this.spendOn(inner, list);
		} else {
			if (Array.isArray(value)) for (const inner of value) this.spendOn(inner, list);
			this.spend(1);
		}
	}
}

/**
 * The standard functions whose cost grows with their arguments, replaced by ones that pay for it first. Together with
 * `CHARGE`, which the check puts around every list that a macro walks, nothing runs that is not paid for.
 */
export function boundedFunctions(engine: CelEngine, budget: ExpressionBudget): CelFunc[] {
	const { celFunc, celMethod, CelScalar, isCelList, isCelMap, listType, objectType } = engine;
	const { BOOL, BYTES, DOUBLE, DYN, INT, STRING, UINT } = CelScalar;
	const LIST = listType(DYN);
	const TIMESTAMP = objectType(TimestampSchema);
	const DURATION = objectType(DurationSchema);
	const standard = engine.celEnv().funcs;

	const original = (name: string, args: CelValue[]): CelResult => {
		const result = standard.find(name)?.call(0, undefined, args);
		if (result === undefined) throw new Error(`no matching overload for ${name}`);
		return result;
	};
	const iterable = (value: unknown): value is Iterable<unknown> => isCelList(value) || isCelMap(value);
	const equal = (left: CelValue, right: CelValue): boolean => {
		if (typeof left === typeof right && typeof left !== "object") {
			if (typeof left === "string") budget.spend(left.length / PER_UNIT);
			return left === right;
		}
		if (iterable(left) && iterable(right)) budget.spendOn(left, iterable);
		return original("_==_", [left, right]) === true;
	};
	const spendOnShorter = (left: string, right: string) => budget.spend(Math.min(left.length, right.length) / PER_UNIT);
	const compared = (left: string, right: string): number => {
		spendOnShorter(left, right);
		return left < right ? -1 : left === right ? 0 : 1;
	};
	const joined = (length: number) => {
		if (length > MAX_JOINED) throw new Error(`+ makes more than ${MAX_JOINED} characters or bytes`);
		budget.spend(length / PER_UNIT);
	};
	const codePoints = (text: string): bigint => {
		budget.spend(text.length / 16);
		let count = text.length;
		for (let at = 0; at < text.length; at++) if ((text.codePointAt(at) ?? 0) > 0xffff) count--;
		return BigInt(count);
	};
	const converting = <T>(name: string, text: string): T => {
		if (text.length > MAX_CONVERTED) throw new Error(`${name}() reads at most ${MAX_CONVERTED} characters`);
		const result = original(name, [text]);
		if (engine.isCelError(result)) throw result;
		return result as T;
	};

	return [
		celFunc(CHARGE, [DYN, INT], DYN, (range, weight) => {
			const size = isCelList(range) || isCelMap(range) ? range.size : 0;
			budget.spend(size * Number(weight));
			return range;
		}),
		celFunc(WITHIN, [DYN], DYN, (condition) => {
			budget.spend(0);
			return condition;
		}),
		celFunc("_==_", [DYN, DYN], BOOL, equal),
		celFunc("_!=_", [DYN, DYN], BOOL, (left, right) => !equal(left, right)),
		celFunc("@in", [DYN, LIST], BOOL, (value, list) => {
			budget.spend(list.size);
			for (const item of list) if (equal(item, value)) return true;
			return false;
		}),
		celFunc("_<_", [STRING, STRING], BOOL, (left, right) => compared(left, right) < 0),
		celFunc("_<=_", [STRING, STRING], BOOL, (left, right) => compared(left, right) <= 0),
		celFunc("_>_", [STRING, STRING], BOOL, (left, right) => compared(left, right) > 0),
		celFunc("_>=_", [STRING, STRING], BOOL, (left, right) => compared(left, right) >= 0),
		celFunc("_+_", [STRING, STRING], STRING, (left, right) => {
			joined(left.length + right.length);
			return left + right;
		}),
		celFunc("_+_", [BYTES, BYTES], BYTES, (left, right) => {
			joined(left.length + right.length);
			return Buffer.concat([left, right]);
		}),
		celFunc("_+_", [LIST, LIST], LIST, (left: CelList, right: CelList) => {
			budget.spend(left.size + right.size);
			return engine.celList([...left, ...right]);
		}),
		celMethod("contains", STRING, [STRING], BOOL, function (this: string, part: string) {
			budget.spend((this.length * Math.max(part.length, 1)) / PER_UNIT);
			return this.includes(part);
		}),
		celMethod("startsWith", STRING, [STRING], BOOL, function (this: string, part: string) {
			spendOnShorter(this, part);
			return this.startsWith(part);
		}),
		celMethod("endsWith", STRING, [STRING], BOOL, function (this: string, part: string) {
			spendOnShorter(this, part);
			return this.endsWith(part);
		}),
		celFunc("size", [STRING], INT, codePoints),
		celMethod("size", STRING, [], INT, function (this: string) {
			return codePoints(this);
		}),
		celFunc("bytes", [STRING], BYTES, (text) => {
			joined(text.length);
			return Buffer.from(text);
		}),
		celFunc("int", [STRING], INT, (text) => converting<bigint>("int", text)),
		celFunc("uint", [STRING], UINT, (text) => converting("uint", text)),
		celFunc("double", [STRING], DOUBLE, (text) => converting<number>("double", text)),
		celFunc("timestamp", [STRING], TIMESTAMP, (text) => converting("timestamp", text)),
		celFunc("duration", [STRING], DURATION, (text) => converting("duration", text)),
	];
}
