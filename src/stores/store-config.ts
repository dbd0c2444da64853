import { create } from "@bufbuild/protobuf";
import { type Duration, DurationSchema } from "@bufbuild/protobuf/wkt";
import { TrustLevel } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import {
	type StoreAccess,
	StoreAccessSchema,
	type StoreConfig,
	StoreConfigSchema,
	type StoreQuota,
	StoreQuotaSchema,
	type StoreValidator,
} from "#gen/qirvo/hub/v1/stores_pb.js";
import { HubError } from "../hub-error.ts";
import { parsePluginId } from "../subjects/plugin-id.ts";

/** Bounds of a store's configuration, and what it says where it says nothing. */
export const STORE_CONFIG_LIMITS = Object.freeze({
	accessPlugins: 256,
	accessCategories: 64,
	categoryCharacters: 64,
	validators: 8,
	keyGlobBytes: 512,
	jsonSchemaBytes: 64 * 1024,
	celBytes: 4096,
	functionCharacters: 128,
	defaultKeys: 100_000n,
	defaultBytes: 256n * 1024n * 1024n,
	maxKeys: 10_000_000n,
	maxBytes: 1024n ** 4n,
	/** 3,660 days. */
	ttlMs: 3660 * 86_400_000,
	history: 64,
	descriptionCharacters: 512,
});

const L = STORE_CONFIG_LIMITS;

/**
 * Reads a configuration that somebody asks for: with every default filled in. Refuses with INVALID_FIELD and
 * INVALID_PLUGIN_ID, naming the field below `path`. Validators are read here as far as their form goes; what they say is for
 * whoever compiles them.
 */
export function readStoreConfig(config: StoreConfig | undefined, path: string = "config"): StoreConfig {
	const asked = config ?? create(StoreConfigSchema);
	if (asked.history > L.history) throw HubError.field(`${path}.history`, `must be at most ${L.history}`);
	if (asked.description.length > L.descriptionCharacters || !asked.description.isWellFormed()) {
		throw HubError.field(
			`${path}.description`,
			`must be well-formed text of at most ${L.descriptionCharacters} characters`,
		);
	}
	const quota = readQuota(asked.quota, `${path}.quota`);
	return create(StoreConfigSchema, {
		persistent: asked.persistent ?? true,
		read: readAccess(asked.read, `${path}.read`),
		write: readAccess(asked.write, `${path}.write`),
		admin: readAccess(asked.admin, `${path}.admin`),
		validators: readValidators(asked.validators, `${path}.validators`),
		quota,
		pluginQuota: asked.pluginQuota === undefined ? quota : readQuota(asked.pluginQuota, `${path}.plugin_quota`),
		defaultTtl: readTtl(asked.defaultTtl, `${path}.default_ttl`),
		history: Math.max(1, asked.history),
		description: asked.description,
	});
}

function readAccess(access: StoreAccess | undefined, path: string): StoreAccess {
	if (access === undefined) return create(StoreAccessSchema);
	const { plugins, categories, minTrustLevel } = access;
	if (plugins.length > L.accessPlugins) throw tooMany(`${path}.plugins`, L.accessPlugins);
	if (categories.length > L.accessCategories) throw tooMany(`${path}.categories`, L.accessCategories);
	for (const [index, id] of plugins.entries()) if (id !== "*") parsePluginId(id, `${path}.plugins[${index}]`);
	for (const [index, category] of categories.entries()) {
		if (category === "" || category.length > L.categoryCharacters || !category.isWellFormed()) {
			throw HubError.field(
				`${path}.categories[${index}]`,
				`is no category: 1 to ${L.categoryCharacters} characters of well-formed text`,
			);
		}
	}
	if (!(minTrustLevel in TrustLevel)) throw HubError.field(`${path}.min_trust_level`, "is no trust level");
	return create(StoreAccessSchema, { plugins, categories, minTrustLevel });
}

function readQuota(quota: StoreQuota | undefined, path: string): StoreQuota {
	const keys = quota?.keys || L.defaultKeys;
	const bytes = quota?.bytes || L.defaultBytes;
	if (keys > L.maxKeys) throw HubError.field(`${path}.keys`, `must be at most ${L.maxKeys}`);
	if (bytes > L.maxBytes) throw HubError.field(`${path}.bytes`, `must be at most ${L.maxBytes}`);
	return create(StoreQuotaSchema, { keys, bytes });
}

function readValidators(validators: readonly StoreValidator[], path: string): StoreValidator[] {
	if (validators.length > L.validators) throw tooMany(path, L.validators);
	const names = new Set<string>();
	return validators.map((validator, index) => {
		const at = `${path}[${index}]`;
		parsePluginId(validator.name, `${at}.name`);
		if (names.has(validator.name)) throw HubError.field(`${at}.name`, "is the name of another validator");
		names.add(validator.name);
		requireBytes(validator.keyGlob, L.keyGlobBytes, `${at}.key_glob`);
		const { case: kind, value } = validator.rule;
		if (kind === undefined) throw HubError.field(at, "has no rule; set json_schema, cel or function");
		if (value === "") throw HubError.field(`${at}.${RULES[kind].field}`, "is empty");
		requireBytes(value, RULES[kind].bytes, `${at}.${RULES[kind].field}`);
		return validator;
	});
}

function readTtl(ttl: Duration | undefined, path: string): Duration | undefined {
	if (ttl === undefined) return undefined;
	const ms = Number(ttl.seconds) * 1000 + ttl.nanos / 1_000_000;
	if (ms === 0) return undefined;
	if (!(ms >= 1 && ms <= L.ttlMs)) throw HubError.field(path, "must be 0, or 1 ms to 3,660 days");
	const whole = Math.ceil(ms);
	return create(DurationSchema, { seconds: BigInt(Math.floor(whole / 1000)), nanos: (whole % 1000) * 1_000_000 });
}

const RULES = {
	jsonSchema: { field: "json_schema", bytes: L.jsonSchemaBytes },
	cel: { field: "cel", bytes: L.celBytes },
	function: { field: "function", bytes: L.functionCharacters },
} as const;

function requireBytes(text: string, max: number, field: string): void {
	if (!text.isWellFormed()) throw HubError.field(field, "is not well-formed text");
	if (Buffer.byteLength(text) > max) throw HubError.field(field, `has more than ${max} bytes`);
}

function tooMany(field: string, max: number): HubError {
	return HubError.field(field, `has more than ${max} items`);
}
