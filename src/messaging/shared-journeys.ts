import { HubError } from "../hub-error.ts";
import type { RecipientAddress } from "./address.ts";
import type { MessageDraft } from "./message-draft.ts";
import { type Journey, type MirrorCopy, NO_MIRRORS } from "./route-table.ts";
import type { Routes } from "./routes.ts";

export interface SharedJourneysOptions {
	readonly routes: Pick<Routes, "lead">;
	/** Finds the plugin of an address that no route leads on from, or refuses. */
	readonly resolve: (address: RecipientAddress) => string;
	/** With the id that all its recipients see. */
	readonly draft: MessageDraft;
	readonly source: string;
	/** Whether the sender may be one of those that are reached. */
	readonly mayReachSender: boolean;
}

/**
 * Where routes lead the copies of one message for many. Each plugin gets one copy, however many recipients lead to it, and
 * each mirror route makes one, however many recipients it is for.
 */
export class SharedJourneys {
	/** Recipients that led to a plugin which others lead to already. */
	merged = 0;
	readonly #options: SharedJourneysOptions;
	/** The plugins that get a copy, each with the copies that the routes to it ask for, by route; undefined: none. */
	readonly #reached = new Map<string, Map<string, MirrorCopy> | undefined>();
	readonly #refused = new Set<string>();
	readonly #mirrored = new Set<string>();

	constructor(options: SharedJourneysOptions) {
		this.#options = options;
	}

	/** Undefined: it is merged. Refuses as `Routes.lead` does, and with NO_ROUTE where it comes back to a sender that may not be. */
	lead(to: RecipientAddress): Journey | undefined {
		const { routes, resolve, draft, source, mayReachSender } = this.#options;
		const journey = routes.lead(to, draft, source, resolve);
		// What is refused on its way reaches nobody.
		if (journey.denial !== undefined) return journey;
		const { recipient, mirrors } = journey;
		if (recipient === source && !mayReachSender) throw backToSender(to);
		const isMerged = this.#reached.has(recipient);
		let wanted = this.#reached.get(recipient);
		if (mirrors.length > 0) wanted ??= new Map();
		for (const mirror of mirrors) wanted?.set(mirror.route, mirror);
		this.#reached.set(recipient, wanted);
		if (!isMerged) return journey;
		this.merged++;
		return undefined;
	}

	/** The guard refuses this one of those that were led: it does not get the message, unless a mirror route copies it there. */
	refuse(pluginId: string): void {
		this.#refused.add(pluginId);
	}

	/**
	 * The copies that are due once the plugin's own one is accepted: none that was made before, and none for the sender or a
	 * plugin that is reached anyway. To be asked after all have been led and judged.
	 */
	takeMirrors(pluginId: string): readonly MirrorCopy[] {
		const wanted = this.#reached.get(pluginId);
		if (wanted === undefined) return NO_MIRRORS;
		const { source } = this.#options;
		return [...wanted.values()].filter(({ route, recipient }) => {
			if (recipient === source || this.#mirrored.has(route)) return false;
			if (this.#reached.has(recipient) && !this.#refused.has(recipient)) return false;
			this.#mirrored.add(route);
			return true;
		});
	}
}

function backToSender({ kind, name }: RecipientAddress): HubError {
	return new HubError("NO_ROUTE", "routes lead back to the sender", {
		metadata: { [kind]: name },
		resource: { type: kind, name },
	});
}
