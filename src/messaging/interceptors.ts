import type { Clock } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import type { Inspector } from "./inspector.ts";
import type { InspectorFilter } from "./inspector-filter.ts";
import { InterceptSession } from "./intercept-session.ts";
import type { MiddlewareChain } from "./middleware-chain.ts";

/** What an interceptor said of itself when it opened. */
export interface InterceptorSettings {
	readonly pluginId: string;
	/** Unique among those of the plugin. */
	readonly name: string;
	readonly order: number;
	readonly filter: InspectorFilter;
	readonly deadlineMs: number;
	readonly failsOpen: boolean;
	readonly maxInFlight: number;
	/** Whether its plugin may intercept now. Asked where its stream is lost. */
	readonly mayIntercept: () => boolean;
}

/** Why an interceptor's place is free again. */
export type PlaceEnd = "withdrawn" | "stream_ended" | "permission_revoked" | "plugin_unregistered";

export interface InterceptorsOptions {
	readonly chain: MiddlewareChain;
	readonly clock: Clock;
	/** Told of each place that is free again. Not of one that another stream of the interceptor takes. */
	readonly onFreed?: (pluginId: string, name: string, why: PlaceEnd) => void;
}

/** An interceptor's place in the chain. It outlives the stream where the interceptor fails closed. */
interface Place {
	readonly session: InterceptSession;
	readonly pluginId: string;
	/** Gives the place up where its stream is lost and another would not be admitted. */
	dropIfRevoked(): boolean;
	leave(why: PlaceEnd | "taken"): void;
}

/** Places at once, with those that are lost and fail closed. */
const MAX_PLACES = 64;
/** Of these of one plugin. */
const MAX_PLACES_OF_PLUGIN = 16;

/** The plugins that look at messages from outside, each with its place in the chain. */
export class Interceptors {
	readonly #options: InterceptorsOptions;
	readonly #places = new Map<string, Place>();

	constructor(options: InterceptorsOptions) {
		this.#options = options;
	}

	/**
	 * Takes the interceptor's place in the chain; a session that had it ends with LIMIT_EXCEEDED. Refuses with LIMIT_EXCEEDED
	 * where there are too many, of all or of its plugin.
	 */
	open(settings: InterceptorSettings): InterceptSession {
		const { chain, clock, onFreed } = this.#options;
		const { pluginId, name } = settings;
		const id = `${pluginId}/${name}`;
		const before = this.#places.get(id);
		if (before === undefined) this.#requireRoom(pluginId);
		before?.leave("taken");
		const session = new InterceptSession(clock, settings.maxInFlight);
		const leave = (why: PlaceEnd | "taken") => {
			inChain[Symbol.dispose]();
			if (this.#places.get(id) !== place) return;
			this.#places.delete(id);
			if (why !== "taken") onFreed?.(pluginId, name, why);
		};
		const dropIfRevoked = () => {
			if (!session.closed || settings.mayIntercept()) return false;
			leave("permission_revoked");
			return true;
		};
		const place: Place = { session, pluginId, leave, dropIfRevoked };
		const inChain = chain.add(inspectorOf(id, settings, place));
		session.onClose = (withdrawn) => {
			if (withdrawn) leave("withdrawn");
			else if (settings.failsOpen) leave("stream_ended");
			else dropIfRevoked();
		};
		this.#places.set(id, place);
		before?.session.end(new HubError("LIMIT_EXCEEDED", "another stream has taken the interceptor's place"));
		return session;
	}

	/** Frees the places that are lost and whose plugins may no longer intercept. To be called when that may have changed. */
	dropRevoked(): void {
		for (const place of [...this.#places.values()]) place.dropIfRevoked();
	}

	/** The plugin is no longer registered: frees its places, and ends its sessions. */
	remove(pluginId: string): void {
		for (const place of [...this.#places.values()]) {
			if (place.pluginId !== pluginId) continue;
			place.leave("plugin_unregistered");
			if (!place.session.closed) place.session.end(noPlugin());
		}
	}

	#requireRoom(pluginId: string): void {
		let own = 0;
		for (const place of this.#places.values()) if (place.pluginId === pluginId) own++;
		if (own >= MAX_PLACES_OF_PLUGIN) throw tooMany(`plugin:${pluginId}`, MAX_PLACES_OF_PLUGIN);
		if (this.#places.size >= MAX_PLACES) throw tooMany("hub", MAX_PLACES);
	}
}

function inspectorOf(id: string, settings: InterceptorSettings, { session, dropIfRevoked }: Place): Inspector {
	const { pluginId: name, order, filter, deadlineMs, failsOpen } = settings;
	return {
		id,
		name,
		order,
		deadlineMs,
		failsOpen,
		// Never its own: what it sends while it looks would be shown to it in turn.
		admits: (type, from, to) => from !== name && filter.admits(type, from, to),
		inspect(message, _, settle) {
			if (!session.closed) return session.inspect(message, deadlineMs, settle);
			settle(dropIfRevoked() ? { kind: "pass" } : undefined);
			return () => {};
		},
	};
}

function noPlugin(): HubError {
	return new HubError("PERMISSION_REVOKED", "the plugin is no longer registered");
}

function tooMany(subject: string, most: number): HubError {
	return new HubError("LIMIT_EXCEEDED", `there are ${most} interceptors already, which is the limit`, {
		metadata: { limit: String(most) },
		quota: { subject, description: `at most ${most} interceptors` },
	});
}
