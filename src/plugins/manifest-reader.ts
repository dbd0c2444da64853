import { HubError } from "../hub-error.ts";

/** The most entries that a list of a manifest may have, where the hub reads it. */
export const MAX_LIST_ENTRIES = 256;

/**
 * Reads members of one JSON object of a manifest, by their own names only, and refuses what has the wrong type with
 * INVALID_MANIFEST and the path to it: `manifest_json: permissions[2].type: is a number; expected a string`.
 */
export class ManifestReader {
	readonly #field: string;
	readonly #path: string;
	readonly #object: Readonly<Record<string, unknown>>;

	/** `field` is the request's field that holds the manifest, `path` where in it the object stands (empty: the root). */
	constructor(field: string, path: string, value: unknown) {
		this.#field = field;
		this.#path = path;
		if (typeof value !== "object" || value === null || Array.isArray(value)) {
			throw manifestError(field, path, `is ${typeName(value)}; expected an object`);
		}
		this.#object = value as Readonly<Record<string, unknown>>;
	}

	/** An error about the member `name`. */
	error(name: string, problem: string, cause?: unknown): HubError {
		return manifestError(this.#field, this.#pathOf(name), problem, cause);
	}

	/** The member as it is; undefined where there is none. */
	member(name: string): unknown {
		return Object.hasOwn(this.#object, name) ? this.#object[name] : undefined;
	}

	/** Checks that a value that stands at `name` is a string of 1 to `maxLength` characters. */
	stringIn(name: string, value: unknown, maxLength: number): string {
		if (typeof value !== "string") throw this.error(name, `is ${typeName(value)}; expected a string`);
		if (value.trim() === "") throw this.error(name, "is empty");
		if (value.length > maxLength) {
			throw this.error(name, `has ${value.length} characters; at most ${maxLength} are allowed`);
		}
		return value;
	}

	/** A string of 1 to `maxLength` characters, or undefined; an empty one counts as left out. */
	text(name: string, maxLength: number): string | undefined {
		return this.member(name) === "" ? undefined : this.optionalString(name, maxLength);
	}

	/** A string of 1 to `maxLength` characters, or undefined. */
	optionalString(name: string, maxLength: number): string | undefined {
		const value = this.member(name);
		return value === undefined ? undefined : this.stringIn(name, value, maxLength);
	}

	/** A string of 1 to `maxLength` characters. */
	string(name: string, maxLength: number): string {
		const value = this.optionalString(name, maxLength);
		if (value === undefined) throw this.error(name, "is missing");
		return value;
	}

	optionalBoolean(name: string): boolean | undefined {
		const value = this.member(name);
		if (value === undefined || typeof value === "boolean") return value;
		throw this.error(name, `is ${typeName(value)}; expected true or false`);
	}

	/** A list of at most `MAX_LIST_ENTRIES`; empty where there is none. Each entry comes with its name for `error`. */
	list(name: string): readonly { readonly name: string; readonly value: unknown }[] {
		const value = this.member(name);
		if (value === undefined) return [];
		if (!Array.isArray(value)) throw this.error(name, `is ${typeName(value)}; expected a list`);
		if (value.length > MAX_LIST_ENTRIES) {
			throw this.error(name, `has ${value.length} entries; at most ${MAX_LIST_ENTRIES} are allowed`);
		}
		return value.map((entry: unknown, index) => ({ name: `${name}[${index}]`, value: entry }));
	}

	/** A list of strings of 1 to `maxLength` characters each. */
	strings(name: string, maxLength: number): readonly string[] {
		return this.list(name).map((entry) => this.stringIn(entry.name, entry.value, maxLength));
	}

	/** A reader of an object inside this one. */
	inside(name: string, value: unknown): ManifestReader {
		return new ManifestReader(this.#field, this.#pathOf(name), value);
	}

	#pathOf(name: string): string {
		return this.#path === "" ? name : `${this.#path}.${name}`;
	}
}

/** A refusal of a manifest; `path` says where in it, empty for the whole. */
export function manifestError(field: string, path: string, problem: string, cause?: unknown): HubError {
	const description = path === "" ? problem : `${path}: ${problem}`;
	return new HubError("INVALID_MANIFEST", `${field}: ${description}`, {
		metadata: path === "" ? { field } : { field, path },
		violations: [{ field, description }],
		cause,
	});
}

function typeName(value: unknown): string {
	if (value === null) return "null";
	if (Array.isArray(value)) return "a list";
	return typeof value === "object" ? "an object" : `a ${typeof value}`;
}
