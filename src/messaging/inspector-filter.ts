import { HubError } from "../hub-error.ts";
import { type Pattern, parsePattern } from "../subjects/pattern.ts";
import { parsePluginId } from "../subjects/plugin-id.ts";

/** Which messages an inspector sees; an empty list admits any. */
export interface InspectorScope {
	readonly types: readonly string[];
	readonly senders: readonly string[];
	readonly recipients: readonly string[];
}

const MAX_TYPES = 64;
const MAX_PLUGINS = 256;

/** An inspector's scope, ready to be asked. */
export class InspectorFilter {
	readonly #types: readonly Pattern[];
	readonly #senders: ReadonlySet<string>;
	readonly #recipients: ReadonlySet<string>;

	/** Refuses patterns and ids that are none, and lists of more than 64 patterns or 256 plugins. `prefix` is the path of the scope. */
	constructor({ types, senders, recipients }: InspectorScope, prefix: string) {
		this.#types = bounded(types, MAX_TYPES, `${prefix}types`).map((type, at) =>
			parsePattern(type, `${prefix}types[${at}]`),
		);
		this.#senders = plugins(senders, `${prefix}senders`);
		this.#recipients = plugins(recipients, `${prefix}recipients`);
	}

	admits(type: string, from: string, to: string): boolean {
		if (this.#senders.size > 0 && !this.#senders.has(from)) return false;
		if (this.#recipients.size > 0 && !this.#recipients.has(to)) return false;
		return this.#types.length === 0 || this.#types.some((pattern) => pattern.matches(type));
	}
}

function plugins(ids: readonly string[], field: string): ReadonlySet<string> {
	return new Set(bounded(ids, MAX_PLUGINS, field).map((id, at) => parsePluginId(id, `${field}[${at}]`)));
}

function bounded<T>(list: readonly T[], most: number, field: string): readonly T[] {
	if (list.length <= most) return list;
	throw HubError.field(field, `has ${list.length} entries; at most ${most} are allowed`);
}
