import { checkJson } from "../content/json-structure.ts";
import type { LinearPatterns } from "./linear-patterns.ts";
import { keywordKind, keywordProblem } from "./schema-keywords.ts";
import { pointerTo, SchemaProblem, shortened } from "./schema-problem.ts";
import { SchemaReferences } from "./schema-references.ts";

/** Bounds of one schema. */
export const SCHEMA_LIMITS = Object.freeze({
	/** Bytes of its text. */
	bytes: 64 * 1024,
	/** Levels of nesting of the text. */
	depth: 48,
	/** Schemas in it, itself included. */
	schemas: 500,
	/** Names in all of `properties`, `required` and `dependentRequired` together. */
	names: 2000,
});

/** Units (`SchemaBudget`) that a schema costs before it looks at a value: at all, for each item, member and character. */
export interface SchemaCost {
	readonly base: number;
	readonly items: number;
	readonly members: number;
	readonly characters: number;
}

/** A schema as the validating library may see it. */
export interface RewrittenSchema {
	/**
	 * Made anew of known keywords only: `hub:cost` on every schema whose cost depends on the value, `hub:constants` (an index
	 * into `constants`) in place of `enum` and `const`, `hub:unique` in place of `uniqueItems`, `#/$defs/<n>` for every reference.
	 */
	readonly schema: Readonly<Record<string, unknown>>;
	readonly constants: readonly { readonly keyword: "enum" | "const"; readonly values: readonly unknown[] }[];
	readonly hasUnevaluated: boolean;
}

type Schema = Record<string, unknown>;

/** A schema inside another: what its parent pays for it. */
interface Part {
	readonly schema: Schema | boolean;
	readonly weight: number;
}

/** What a part costs that pays for itself, and what telling each item or member costs beyond what is done with it. */
const CALL = 3;
const EACH = 2;
/** Items that do not fit leave an error each until enough are found. */
const EACH_CONTAINED = 20;
const SCHEMA_URI = /^https:\/\/json-schema\.org\/draft\/2020-12\/schema#?$/;

/** Checks the text of a schema and makes it anew of what is known to be harmless. Throws `SchemaProblem`. */
export function rewriteSchema(text: string, patterns: LinearPatterns): RewrittenSchema {
	if (Buffer.byteLength(text) > SCHEMA_LIMITS.bytes) {
		throw new SchemaProblem("", `the schema has more than ${SCHEMA_LIMITS.bytes} bytes`);
	}
	const structure = checkJson(text, SCHEMA_LIMITS.depth);
	if (structure !== undefined) throw new SchemaProblem("", `${structure.problem} (at byte ${structure.offset})`);
	let parsed: unknown;
	try {
		parsed = JSON.parse(text);
	} catch (error) {
		throw new SchemaProblem("", `the schema is no JSON: ${(error as Error).message.slice(0, 120)}`);
	}
	return new Rewriter(patterns).rewrite(parsed);
}

class Rewriter {
	readonly #references = new SchemaReferences();
	readonly #constants: { keyword: "enum" | "const"; values: readonly unknown[] }[] = [];
	#schemas = 0;
	#names = 0;
	#hasUnevaluated = false;

	constructor(patterns: LinearPatterns) {
		this.patterns = patterns;
	}

	rewrite(parsed: unknown): RewrittenSchema {
		this.#part(parsed, "");
		const schema = this.#references.resolve();
		return { schema, constants: this.#constants, hasUnevaluated: this.#hasUnevaluated };
	}

	#part(value: unknown, pointer: string): Part {
		if (++this.#schemas > SCHEMA_LIMITS.schemas) {
			throw new SchemaProblem(pointer, `there are more than ${SCHEMA_LIMITS.schemas} schemas in the schema`);
		}
		if (typeof value === "boolean") {
			this.#references.target(pointer, value);
			return { schema: value, weight: 1 };
		}
		if (!isObject(value)) throw new SchemaProblem(pointer, "a schema is an object, true or false");
		return new PartRewriter(pointer).rewrite(value, this);
	}

	/** What `PartRewriter` needs of the whole. */
	readonly part = (value: unknown, pointer: string): Part => this.#part(value, pointer);
	readonly references = this.#references;
	readonly patterns: LinearPatterns;

	countNames(names: number, pointer: string): void {
		this.#names += names;
		if (this.#names > SCHEMA_LIMITS.names) {
			throw new SchemaProblem(pointer, `there are more than ${SCHEMA_LIMITS.names} names in the schema`);
		}
	}

	constants(keyword: "enum" | "const", values: readonly unknown[]): number {
		return this.#constants.push({ keyword, values }) - 1;
	}

	usesUnevaluated(): void {
		this.#hasUnevaluated = true;
	}
}

/** Rewrites one schema object. */
class PartRewriter {
	readonly #pointer: string;
	readonly #out: Schema = {};
	#base = 1;
	#items = 0;
	#members = 0;
	#characters = 0;
	#inPlace = 0;
	#paysForItself = false;

	constructor(pointer: string) {
		this.#pointer = pointer;
	}

	rewrite(value: Readonly<Record<string, unknown>>, whole: Rewriter): Part {
		for (const [name, part] of Object.entries(value)) this.#keyword(name, part, pointerTo(this.#pointer, name), whole);
		// What the parts have seen of the members is gathered for each of them.
		if (this.#members > 0) this.#members += this.#inPlace;
		if (this.#items + this.#members + this.#characters > 0 || this.#base > 16) this.#paysForItself = true;
		if (this.#paysForItself) {
			this.#out["hub:cost"] = {
				base: this.#base,
				items: this.#items,
				members: this.#members,
				characters: this.#characters,
			} satisfies SchemaCost;
		}
		whole.references.target(this.#pointer, this.#out);
		return { schema: this.#out, weight: this.#paysForItself ? CALL : this.#base };
	}

	#keyword(name: string, value: unknown, pointer: string, whole: Rewriter): void {
		if (name === "$id" || name === "$schema") {
			if (this.#pointer !== "") throw new SchemaProblem(pointer, `${name} may stand at the root only`);
			checkRootName(name, value, pointer);
			return;
		}
		const kind = keywordKind(name);
		if (typeof kind !== "string") throw new SchemaProblem(pointer, kind.problem);
		switch (kind) {
			case "in-place":
				this.#out[name] = this.#inside(whole.part(value, pointer));
				break;
			case "each-item":
			case "each-member": {
				if (Array.isArray(value)) throw new SchemaProblem(pointer, "must be one schema; lists are for prefixItems");
				const { schema, weight } = whole.part(value, pointer);
				this.#out[name] = schema;
				const each = weight + (name === "contains" ? EACH_CONTAINED : EACH);
				if (kind === "each-item") this.#items += each;
				else this.#members += each;
				if (name.startsWith("unevaluated")) whole.usesUnevaluated();
				break;
			}
			case "all-in-place":
			case "first-items":
				if (!Array.isArray(value) || value.length === 0) throw new SchemaProblem(pointer, "must be a list of schemas");
				this.#extend(
					name,
					value.map((each, at) => this.#inside(whole.part(each, pointerTo(pointer, at)))),
				);
				break;
			case "members":
			case "dependent":
			case "patterns":
			case "definitions":
				this.#byName(kind, name, value, pointer, whole);
				break;
			case "constants":
				if (name === "enum" && !Array.isArray(value)) throw new SchemaProblem(pointer, "must be a list");
				this.#constants(whole.constants(...constantsOf(name, value)));
				break;
			case "pattern":
				if (typeof value !== "string") throw new SchemaProblem(pointer, "must be a text");
				whole.patterns.compile(value, pointer);
				this.#out[name] = value;
				break;
			case "reference":
				if (typeof value !== "string") throw new SchemaProblem(pointer, "must be a text");
				this.#paysForItself = true;
				this.#base += CALL;
				this.#inPlace++;
				whole.references.from(this.#out, name, value, pointer);
				break;
			case "anchor":
				whole.references.anchor(value, this.#pointer, pointer);
				break;
			case "annotation":
				break;
			case "checked":
				this.#checked(name, value, pointer, whole);
		}
	}

	/** A part that looks at the same value, or at one item of it. */
	#inside(part: Part): Schema | boolean {
		this.#base += part.weight;
		this.#inPlace++;
		return part.schema;
	}

	#byName(
		kind: "members" | "dependent" | "patterns" | "definitions",
		name: string,
		value: unknown,
		pointer: string,
		whole: Rewriter,
	): void {
		if (!isObject(value)) throw new SchemaProblem(pointer, "must have a schema for each name");
		const parts: Schema = Object.create(null);
		for (const [each, inner] of Object.entries(value)) {
			// The validating library leaves it out, so that what is said of it would not hold.
			if (each === "__proto__" && kind !== "definitions") {
				throw new SchemaProblem(pointer, 'may not name "__proto__"; patternProperties can');
			}
			const part = whole.part(inner, pointerTo(pointer, each));
			if (kind === "definitions") continue;
			if (kind === "patterns") whole.patterns.compile(each, pointerTo(pointer, each));
			whole.countNames(1, pointer);
			parts[each] = part.schema;
			if (kind === "patterns") this.#members += EACH + part.weight;
			else this.#base += 1 + part.weight;
			if (kind === "dependent") this.#inPlace++;
		}
		if (kind !== "definitions") this.#out[name] = parts;
	}

	#checked(name: string, value: unknown, pointer: string, whole: Rewriter): void {
		const problem = keywordProblem(name, value);
		if (problem !== undefined) {
			const given = typeof value === "string" ? `"${shortened(value)}" ` : "";
			throw new SchemaProblem(pointer, `${given}${problem}`);
		}
		const names = name === "required" ? [value] : name === "dependentRequired" ? Object.values(value as object) : [];
		const count = names.flat().length;
		whole.countNames(count, pointer);
		this.#base += 1 + count;
		if (name === "minLength" || name === "maxLength") this.#characters += 0.2;
		if (name === "minProperties" || name === "maxProperties") this.#members += 1;
		if (name !== "uniqueItems") this.#out[name] = value;
		else if (value === true) this.#out["hub:unique"] = true;
	}

	/** `enum` and `const` may stand beside each other, and become the same keyword. */
	#constants(constants: number): void {
		this.#base += 2;
		if (this.#out["hub:constants"] === undefined) this.#out["hub:constants"] = constants;
		else this.#extend("allOf", [{ "hub:constants": constants }]);
	}

	/** Only `allOf` is ever there already. */
	#extend(name: string, parts: readonly (Schema | boolean)[]): void {
		this.#out[name] = [...((this.#out[name] as (Schema | boolean)[] | undefined) ?? []), ...parts];
	}
}

function constantsOf(name: string, value: unknown): ["enum" | "const", readonly unknown[]] {
	return name === "enum" ? ["enum", value as readonly unknown[]] : ["const", [value]];
}

function checkRootName(name: string, value: unknown, pointer: string): void {
	if (typeof value !== "string") throw new SchemaProblem(pointer, "must be a text");
	if (name === "$schema" && !SCHEMA_URI.test(value)) {
		throw new SchemaProblem(pointer, "must be https://json-schema.org/draft/2020-12/schema");
	}
}

function isObject(value: unknown): value is Record<string, unknown> {
	return typeof value === "object" && value !== null && !Array.isArray(value);
}
