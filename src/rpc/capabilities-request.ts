import { create, toBinary } from "@bufbuild/protobuf";
import { type Capabilities, CapabilitiesSchema, type CapabilityMetadata } from "#gen/qirvo/hub/v1/plugin_service_pb.js";
import { checkJson } from "../content/json-structure.ts";
import { HubError } from "../hub-error.ts";
import { parsePluginId } from "../subjects/plugin-id.ts";
import { parseSubject, type Subject } from "../subjects/subject.ts";
import { parseRange, parseVersion } from "../versions/semver-range.ts";

const MAX_ENTRIES = 256;
const MAX_BYTES = 64 * 1024;
const MAX_CATEGORY_LENGTH = 64;
const EVERYONE = "*";

/** Checks the capabilities of a request. Refuses with INVALID_FIELD, or INVALID_PLUGIN_ID, naming the field. */
export function parseCapabilities(given: Capabilities | undefined, field: string): Capabilities {
	if (given === undefined) return create(CapabilitiesSchema);
	requireSize(given, field);
	list(given.provides, `${field}.provides`, parseCapabilityName);
	list(given.requires, `${field}.requires`, (required, at) => {
		parseCapabilityName(required.capability, `${at}.capability`);
		if (required.versionRange !== "") parseRange(required.versionRange, `${at}.version_range`);
	});
	list(given.categories, `${field}.categories`, (category, at) => {
		const fits = category !== "" && category.length <= MAX_CATEGORY_LENGTH;
		if (!fits) throw HubError.field(at, `has ${category.length} characters; 1 to ${MAX_CATEGORY_LENGTH} are allowed`);
	});
	if (given.version !== "") parseVersion(given.version, `${field}.version`);
	const { reliability, responseTime } = given;
	if (reliability !== undefined && !(reliability >= 0 && reliability <= 1)) {
		throw HubError.field(`${field}.reliability`, `is ${reliability}; 0 to 1 is allowed`);
	}
	if (responseTime && (responseTime.seconds < 0n || responseTime.nanos < 0 || responseTime.nanos >= 1e9)) {
		throw HubError.field(`${field}.response_time`, "is not a duration of 0 or more");
	}
	map(given.costs, `${field}.costs`, (cost, at) => {
		if (!(cost >= 0 && cost < Number.POSITIVE_INFINITY)) throw HubError.field(at, `is ${cost}; 0 or more is allowed`);
	});
	checkAccess(given, field);
	map(given.capabilityMetadata, `${field}.capability_metadata`, checkMetadata);
	if (given.metadataJson !== "") parseJson(given.metadataJson, `${field}.metadata_json`, true);
	return given;
}

/** Refuses capabilities that take more than 64 KiB in all. */
export function requireSize(capabilities: Capabilities, field: string): void {
	const bytes = toBinary(CapabilitiesSchema, capabilities).byteLength;
	if (bytes > MAX_BYTES) throw HubError.field(field, `has ${bytes} bytes; at most ${MAX_BYTES} are allowed`);
}

/** A capability's name is a subject. Refuses with INVALID_FIELD. */
export function parseCapabilityName(text: string, field: string): Subject {
	try {
		return parseSubject(text, field);
	} catch (error) {
		if (!(error instanceof HubError)) throw error;
		throw HubError.field(field, error.options.violations?.[0]?.description ?? "is not a capability's name");
	}
}

function checkAccess({ accessControl }: Capabilities, field: string): void {
	if (!accessControl) return;
	for (const name of ["allow", "deny"] as const) {
		list(accessControl[name], `${field}.access_control.${name}`, (id, at) => {
			if (id !== EVERYONE) parsePluginId(id, at);
		});
	}
}

function checkMetadata(metadata: CapabilityMetadata, field: string): void {
	const texts: [string, string][] = [
		["input_schema_json", metadata.inputSchemaJson],
		["output_schema_json", metadata.outputSchemaJson],
	];
	for (const [name, text] of texts) {
		if (text !== "") parseJson(text, `${field}.${name}`, false);
	}
	list(metadata.examplesJson, `${field}.examples_json`, (text, at) => parseJson(text, at, false));
}

function parseJson(text: string, field: string, mustBeObject: boolean): void {
	const problem = checkJson(text);
	if (problem) throw HubError.field(field, `is not JSON: ${problem.problem} (byte ${problem.offset})`);
	let value: unknown;
	try {
		value = JSON.parse(text);
	} catch (error) {
		throw HubError.field(field, `is not JSON: ${(error as Error).message}`);
	}
	const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
	if (mustBeObject && !isObject) throw HubError.field(field, "is not a JSON object");
}

function list<T>(items: readonly T[], field: string, check: (item: T, field: string) => void): void {
	requireCount(items.length, field);
	for (const [index, item] of items.entries()) check(item, `${field}[${index}]`);
}

function map<T>(items: Readonly<Record<string, T>>, field: string, check: (item: T, field: string) => void): void {
	const entries = Object.entries(items);
	requireCount(entries.length, field);
	for (const [name, item] of entries) {
		parseCapabilityName(name, field);
		check(item, `${field}[${JSON.stringify(name)}]`);
	}
}

function requireCount(count: number, field: string): void {
	if (count > MAX_ENTRIES) throw HubError.field(field, `has ${count} entries; at most ${MAX_ENTRIES} are allowed`);
}
