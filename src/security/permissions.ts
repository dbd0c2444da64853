import type { Permissions } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import { HubError } from "../hub-error.ts";
import { parsePattern } from "../subjects/pattern.ts";
import { parsePluginId } from "../subjects/plugin-id.ts";
import { isStoreName } from "../subjects/store-name.ts";

/** The most entries in each list of a Permissions message. */
const MAX_GRANTS = 256;

const ID_LISTS = { sendTo: "send_to", receiveFrom: "receive_from" } as const;
const PATTERN_LISTS = {
	emit: "emit",
	subscribe: "subscribe",
	replay: "replay",
	publishTopics: "publish_topics",
	subscribeTopics: "subscribe_topics",
	capabilities: "capabilities",
} as const;

/**
 * Refuses permissions that cannot be used as they are, naming the path of what is wrong: lists of more than 256 entries,
 * ids, patterns and store names that are none, and store grants that give nothing.
 */
export function parsePermissions(permissions: Permissions | undefined, field: string): Permissions {
	if (permissions === undefined) throw HubError.field(field, "is required");
	for (const [property, name] of entriesOf(ID_LISTS)) {
		eachOf(permissions[property], `${field}.${name}`, (id, path) => {
			if (id !== "*") parsePluginId(id, path);
		});
	}
	for (const [property, name] of entriesOf(PATTERN_LISTS)) {
		eachOf(permissions[property], `${field}.${name}`, parsePattern);
	}
	eachOf(permissions.stores, `${field}.stores`, (grant, path) => {
		if (grant.store !== "*" && !isStoreName(grant.store)) {
			throw HubError.field(
				`${path}.store`,
				'is neither "*" nor a store name: 1 to 128 of A-Z, a-z, 0-9, ".", "_", ":" and "-", starting with a letter or digit',
			);
		}
		if (!grant.read && !grant.write && !grant.create) {
			throw HubError.field(path, "gives neither read nor write nor create");
		}
	});
	return permissions;
}

function eachOf<T>(list: readonly T[], field: string, check: (entry: T, path: string) => unknown): void {
	if (list.length > MAX_GRANTS) {
		throw HubError.field(field, `has ${list.length} entries; at most ${MAX_GRANTS} are allowed`);
	}
	for (const [index, entry] of list.entries()) check(entry, `${field}[${index}]`);
}

function entriesOf<K extends string, V>(table: Readonly<Record<K, V>>): [K, V][] {
	return Object.entries(table) as [K, V][];
}
