import { durationMs } from "@bufbuild/protobuf/wkt";
import { TrustLevel } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import type { StoreAccess, StoreConfig, StoreQuota, StoreValidator } from "#gen/qirvo/hub/v1/stores_pb.js";
import { HubError } from "../hub-error.ts";
import { parsePluginId } from "../subjects/plugin-id.ts";
import { bounded } from "./repeatable-request.ts";

const MAX_LISTED_PLUGINS = 256;
const MAX_LISTED_CATEGORIES = 64;
const MAX_CATEGORY = 64;
const MAX_VALIDATORS = 8;
const MAX_GLOB_BYTES = 512;
const MAX_SCHEMA_BYTES = 64 * 1024;
const MAX_EXPRESSION_BYTES = 4 * 1024;
const MAX_QUOTA_KEYS = 10_000_000n;
const MAX_QUOTA_BYTES = 1n << 40n;
const MAX_TTL_MS = 3660 * 86_400_000;
const MAX_HISTORY = 64;
const MAX_DESCRIPTION = 512;

/**
 * Refuses a configuration that is out of its bounds, with the path of what is wrong. What only the stores can judge (whether a
 * schema, an expression or a glob is one) is theirs.
 */
export function parseStoreConfig(config: StoreConfig, field: string): StoreConfig {
	for (const list of ["read", "write", "admin"] as const) checkAccess(config[list], `${field}.${list}`);
	checkValidators(config.validators, `${field}.validators`);
	checkQuota(config.quota, `${field}.quota`);
	checkQuota(config.pluginQuota, `${field}.plugin_quota`);
	const ttl = config.defaultTtl === undefined ? 0 : durationMs(config.defaultTtl);
	if (!(ttl === 0 || (ttl >= 1 && ttl <= MAX_TTL_MS))) {
		throw HubError.field(`${field}.default_ttl`, "must be 0, or 1 ms to 3,660 days");
	}
	if (config.history > MAX_HISTORY) throw HubError.field(`${field}.history`, `must be at most ${MAX_HISTORY}`);
	bounded(config.description, MAX_DESCRIPTION, `${field}.description`);
	return config;
}

function checkAccess(access: StoreAccess | undefined, field: string): void {
	if (access === undefined) return;
	atMost(access.plugins, MAX_LISTED_PLUGINS, `${field}.plugins`);
	atMost(access.categories, MAX_LISTED_CATEGORIES, `${field}.categories`);
	for (const [index, id] of access.plugins.entries()) {
		if (id !== "*") parsePluginId(id, `${field}.plugins[${index}]`);
	}
	for (const [index, category] of access.categories.entries()) {
		if (bounded(category, MAX_CATEGORY, `${field}.categories[${index}]`) === "") {
			throw HubError.field(`${field}.categories[${index}]`, "is empty");
		}
	}
	if (TrustLevel[access.minTrustLevel] === undefined) {
		throw HubError.field(`${field}.min_trust_level`, "is no trust level");
	}
}

function checkValidators(validators: readonly StoreValidator[], field: string): void {
	atMost(validators, MAX_VALIDATORS, field);
	const names = new Set<string>();
	for (const [index, { name, keyGlob, rule }] of validators.entries()) {
		const path = `${field}[${index}]`;
		parsePluginId(name, `${path}.name`);
		if (names.has(name)) throw HubError.field(`${path}.name`, "is there twice");
		names.add(name);
		atMostBytes(keyGlob, MAX_GLOB_BYTES, `${path}.key_glob`);
		switch (rule.case) {
			case "jsonSchema":
				atMostBytes(rule.value, MAX_SCHEMA_BYTES, `${path}.json_schema`);
				break;
			case "cel":
				atMostBytes(rule.value, MAX_EXPRESSION_BYTES, `${path}.cel`);
				break;
			case "function":
				break;
			case undefined:
				throw HubError.field(path, "says nothing; set json_schema, cel or function");
		}
	}
}

function checkQuota(quota: StoreQuota | undefined, field: string): void {
	if (quota === undefined) return;
	if (quota.keys > MAX_QUOTA_KEYS) throw HubError.field(`${field}.keys`, `must be at most ${MAX_QUOTA_KEYS}`);
	if (quota.bytes > MAX_QUOTA_BYTES) throw HubError.field(`${field}.bytes`, `must be at most ${MAX_QUOTA_BYTES}`);
}

function atMost(list: readonly unknown[], most: number, field: string): void {
	if (list.length > most) throw HubError.field(field, `has ${list.length} entries; at most ${most} are allowed`);
}

function atMostBytes(text: string, most: number, field: string): void {
	const bytes = Buffer.byteLength(text);
	if (bytes > most) throw HubError.field(field, `has ${bytes} bytes; at most ${most} are allowed`);
}
