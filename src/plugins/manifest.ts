import { checkJson } from "../content/json-structure.ts";
import { HubError } from "../hub-error.ts";
import { MAX_PLUGIN_ID_LENGTH, type PluginId, parsePluginId } from "../subjects/plugin-id.ts";
import { parseVersion } from "../versions/semver-range.ts";
import { ManifestReader, manifestError } from "./manifest-reader.ts";
import { platformPermission } from "./platform-permissions.ts";

/** The most bytes that a manifest may have as UTF-8. */
export const MAX_MANIFEST_BYTES = 256 * 1024;

const MAX_NAME_LENGTH = 128;
const MAX_DESCRIPTION_LENGTH = 4096;
const MAX_LABEL_LENGTH = 128;
const KNOWN_VERSIONS = [1, 2];

/** What a plugin says of itself to the platform, as far as the hub reads it. */
export interface Manifest {
	readonly id: PluginId;
	readonly name: string;
	/** A semantic version; undefined where the manifest has none. */
	readonly version: string | undefined;
	/** Empty where the manifest has none. */
	readonly description: string;
	/** `dashboard-widget`, `cli-tool`, `service`, `page`, `hybrid`, or a type that the platform has added since. */
	readonly type: string | undefined;
	readonly category: string | undefined;
	/** `categories` and `category`, each once, in that order. */
	readonly categories: readonly string[];
	/** `tags` and `keywords`, each once, in that order. */
	readonly tags: readonly string[];
	/** Requests, not grants. Each permission once, in the order of its first mention. */
	readonly declaredPermissions: readonly DeclaredPermission[];
	readonly manifestVersion: number;
	/** The whole manifest as it was given. */
	readonly json: string;
}

export interface DeclaredPermission {
	/** The canonical name where `recognised`, else the spelling itself. */
	readonly permission: string;
	/** As the manifest wrote it first. */
	readonly spelling: string;
	/** Whether the hub knows the permission. The platform may have added it since, so an unknown one is kept. */
	readonly recognised: boolean;
	readonly description: string | undefined;
	/** Whether the plugin cannot do without; undefined where the manifest does not say. */
	readonly required: boolean | undefined;
}

/**
 * Reads a manifest of version 1 or 2. What the hub does not use is not looked at. `ownId`
 * is the id where the manifest has none; else it is made of the name. Refuses with INVALID_MANIFEST, naming `field` and
 * the path: bad JSON, more than `MAX_MANIFEST_BYTES` or 64 levels, wrong types, lists over 256 entries.
 */
export function parseManifest(json: string, field: string, ownId?: PluginId): Manifest {
	const root = new ManifestReader(field, "", parseJson(json, field));
	const name = root.string("name", MAX_NAME_LENGTH);
	const category = root.optionalString("category", MAX_LABEL_LENGTH);
	const categories = root.strings("categories", MAX_LABEL_LENGTH);
	const tags = [...root.strings("tags", MAX_LABEL_LENGTH), ...root.strings("keywords", MAX_LABEL_LENGTH)];
	return {
		id: readId(root, name, ownId),
		name,
		version: readVersion(root),
		description: root.text("description", MAX_DESCRIPTION_LENGTH) ?? "",
		type: root.optionalString("type", MAX_LABEL_LENGTH),
		category,
		categories: [...new Set(category === undefined ? categories : [...categories, category])],
		tags: [...new Set(tags)],
		declaredPermissions: readPermissions(root),
		manifestVersion: readManifestVersion(root),
		json,
	};
}

/**
 * The plugin id that a name stands for: accents dropped, lower case, every run of other characters than `a-z0-9` one
 * `-`, none at the ends, at most 128 characters. Empty where nothing is left.
 */
export function slug(name: string): string {
	const ascii = name
		.normalize("NFKD")
		.replaceAll(/\p{M}+/gu, "")
		.toLowerCase();
	const joined = ascii.replaceAll(/[^a-z0-9]+/g, "-");
	return joined
		.slice(joined.startsWith("-") ? 1 : 0)
		.slice(0, MAX_PLUGIN_ID_LENGTH)
		.replace(/-$/, "");
}

function parseJson(json: string, field: string): unknown {
	const bytes = Buffer.byteLength(json);
	if (bytes > MAX_MANIFEST_BYTES) {
		throw manifestError(field, "", `has ${bytes} bytes; at most ${MAX_MANIFEST_BYTES} are allowed`);
	}
	const structure = checkJson(json);
	if (structure !== undefined) {
		throw manifestError(field, "", `is not JSON: ${structure.problem} (byte ${structure.offset})`);
	}
	try {
		return JSON.parse(json);
	} catch (cause) {
		throw manifestError(field, "", `is not JSON: ${(cause as Error).message}`, cause);
	}
}

function readId(root: ManifestReader, name: string, ownId: PluginId | undefined): PluginId {
	const given = root.optionalString("id", MAX_PLUGIN_ID_LENGTH);
	if (given === undefined && ownId !== undefined) return ownId;
	const id = given ?? slug(name);
	if (id === "") throw root.error("name", "has no letter a-z or digit to make an id of, and there is no id");
	try {
		return parsePluginId(id, "id");
	} catch (error) {
		if (!(error instanceof HubError)) throw error;
		const problem = error.options.violations?.[0]?.description ?? "is not a plugin id";
		if (given !== undefined) throw root.error("id", problem, error);
		throw root.error("name", `makes the id "${id}": ${problem}`, error);
	}
}

function readVersion(root: ManifestReader): string | undefined {
	const text = root.optionalString("version", Number.MAX_SAFE_INTEGER);
	if (text === undefined) return undefined;
	try {
		parseVersion(text, "version");
	} catch (error) {
		if (!(error instanceof HubError)) throw error;
		throw root.error("version", error.options.violations?.[0]?.description ?? "is not a version", error);
	}
	return text;
}

function readManifestVersion(root: ManifestReader): number {
	const version = root.member("manifest_version");
	if (version === undefined) return 1;
	if (typeof version === "number" && KNOWN_VERSIONS.includes(version)) return version;
	throw root.error("manifest_version", `is ${JSON.stringify(version).slice(0, 64)}; known are 1 and 2`);
}

function readPermissions(root: ManifestReader): readonly DeclaredPermission[] {
	const declared = new Map<string, DeclaredPermission>();
	for (const { name, value } of root.list("permissions")) {
		const entry = readPermission(root, name, value);
		const first = declared.get(entry.permission);
		declared.set(
			entry.permission,
			first === undefined
				? entry
				: {
						...first,
						description: first.description ?? entry.description,
						required: first.required === true ? true : (entry.required ?? first.required),
					},
		);
	}
	return [...declared.values()];
}

function readPermission(root: ManifestReader, name: string, value: unknown): DeclaredPermission {
	if (typeof value === "string") return named(root.stringIn(name, value, MAX_LABEL_LENGTH), undefined, undefined);
	if (typeof value !== "object" || value === null || Array.isArray(value)) {
		throw root.error(name, "must be a permission's name, or an object with its type");
	}
	const entry = root.inside(name, value);
	const description = entry.text("description", MAX_DESCRIPTION_LENGTH);
	return named(entry.string("type", MAX_LABEL_LENGTH), description, entry.optionalBoolean("required"));
}

function named(spelling: string, description: string | undefined, required: boolean | undefined): DeclaredPermission {
	const permission = platformPermission(spelling);
	return {
		permission: permission ?? spelling,
		spelling,
		recognised: permission !== undefined,
		description,
		required,
	};
}
