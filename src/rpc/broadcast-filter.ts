import { PluginState } from "#gen/qirvo/hub/v1/plugin_service_pb.js";
import { TrustLevel } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import type { BroadcastFilter as FilterMessage } from "#gen/qirvo/hub/v1/topics_pb.js";
import { HubError } from "../hub-error.ts";
import type { BroadcastFilter } from "../messaging/broadcast-audience.ts";
import { parsePluginId } from "../subjects/plugin-id.ts";
import { parseSubject } from "../subjects/subject.ts";
import { parseRange } from "../versions/semver-range.ts";

const MAX_ENTRIES = 256;
const MAX_CATEGORY_LENGTH = 64;

const EVERYONE: BroadcastFilter = Object.freeze({
	pluginIds: undefined,
	categories: [],
	capabilities: [],
	versionRange: undefined,
	minTrustLevel: undefined,
	states: undefined,
});

/** Checks the filter of a broadcast; absent: everyone. Refuses with INVALID_FIELD and INVALID_PLUGIN_ID, naming the field. */
export function parseBroadcastFilter(filter: FilterMessage | undefined, field: string): BroadcastFilter {
	if (filter === undefined) return EVERYONE;
	const { versionRange, minTrustLevel } = filter;
	if (minTrustLevel !== undefined && (minTrustLevel === TrustLevel.UNSPECIFIED || !(minTrustLevel in TrustLevel))) {
		throw HubError.field(`${field}.min_trust_level`, "is not a trust level");
	}
	const pluginIds = each(filter.pluginIds, `${field}.plugin_ids`, (id, at) => {
		parsePluginId(id, at);
		return id;
	});
	const states = each(filter.states, `${field}.states`, (state, at) => {
		if (state === PluginState.UNSPECIFIED || !(state in PluginState)) throw HubError.field(at, "is not a state");
		return state;
	});
	return {
		pluginIds: pluginIds.length === 0 ? undefined : new Set(pluginIds),
		categories: each(filter.categories, `${field}.categories`, (category, at) => {
			if (category !== "" && category.length <= MAX_CATEGORY_LENGTH) return category;
			throw HubError.field(at, `has ${category.length} characters; 1 to ${MAX_CATEGORY_LENGTH} are allowed`);
		}),
		capabilities: each(filter.capabilities, `${field}.capabilities`, (name, at) => parseSubject(name, at).canonical),
		versionRange: versionRange === "" ? undefined : parseRange(versionRange, `${field}.version_range`),
		minTrustLevel,
		states: states.length === 0 ? undefined : new Set(states),
	};
}

function each<T, R>(entries: readonly T[], field: string, parse: (entry: T, at: string) => R): R[] {
	if (entries.length > MAX_ENTRIES) {
		throw HubError.field(field, `has ${entries.length} entries; at most ${MAX_ENTRIES} are allowed`);
	}
	return entries.map((entry, index) => parse(entry, `${field}[${index}]`));
}
