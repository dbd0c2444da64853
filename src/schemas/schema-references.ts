import { SchemaProblem, shortened } from "./schema-problem.ts";

type Schema = Record<string, unknown>;
const ANCHOR = /^[A-Za-z_][A-Za-z0-9._-]{0,127}$/;

/**
 * The references of one schema. What is referred to moves to `$defs` under a number, and every reference becomes
 * `#/$defs/<number>`: no text of the author is ever resolved as a URI, and each part is compiled once.
 */
export class SchemaReferences {
	readonly #targets = new Map<string, Schema | boolean>();
	readonly #anchors = new Map<string, string>();
	readonly #references: { from: Schema; keyword: string; to: string; pointer: string }[] = [];

	/** A schema that stands at `pointer`; it may be changed by `resolve`. */
	target(pointer: string, schema: Schema | boolean): void {
		this.#targets.set(pointer, schema);
	}

	anchor(name: unknown, target: string, pointer: string): void {
		if (typeof name !== "string" || !ANCHOR.test(name)) throw new SchemaProblem(pointer, "is no name for an anchor");
		const other = this.#anchors.get(name);
		if (other !== undefined && other !== target) throw new SchemaProblem(pointer, "the anchor is there twice");
		this.#anchors.set(name, target);
	}

	/** In a schema that is one document, a dynamic reference leads where a plain one does. */
	from(from: Schema, keyword: string, to: string, pointer: string): void {
		if (!to.startsWith("#")) {
			throw new SchemaProblem(pointer, `"${shortened(to)}" leads to another document; references begin with #`);
		}
		this.#references.push({ from, keyword, to: to.slice(1), pointer });
	}

	/** The whole schema, of which the root is one definition. Throws `SchemaProblem` for a reference that leads nowhere. */
	resolve(): Schema {
		const numbers = new Map<string, string>([["", "#/$defs/0"]]);
		const resolved = this.#references.map((reference) => {
			const target = this.#find(reference.to);
			if (target === undefined) {
				throw new SchemaProblem(reference.pointer, `"#${shortened(reference.to)}" leads to no schema`);
			}
			const number = numbers.get(target) ?? `#/$defs/${numbers.size}`;
			numbers.set(target, number);
			return [reference.from, number] as const;
		});
		for (const [from, number] of resolved) {
			if (from.$ref === undefined) from.$ref = number;
			else from.allOf = [...((from.allOf as Schema[] | undefined) ?? []), { $ref: number }];
		}
		const definitions: Schema = {};
		for (const [pointer, number] of numbers) {
			const target = this.#targets.get(pointer)!;
			if (typeof target === "object") {
				const moved = { ...target };
				for (const name of Object.keys(target)) delete target[name];
				target.$ref = number;
				definitions[number.slice("#/$defs/".length)] = moved;
			} else definitions[number.slice("#/$defs/".length)] = target;
		}
		return { $ref: "#/$defs/0", $defs: definitions };
	}

	#find(fragment: string): string | undefined {
		let pointer: string;
		try {
			pointer = decodeURIComponent(fragment);
		} catch {
			return undefined;
		}
		if (pointer !== "" && !pointer.startsWith("/")) return this.#anchors.get(pointer);
		return this.#targets.has(pointer) ? pointer : undefined;
	}
}
