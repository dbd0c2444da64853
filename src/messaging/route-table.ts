import type { Route } from "#gen/qirvo/hub/v1/routes_pb.js";
import type { IdSource } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import { hashText } from "../state/text-hash.ts";
import { type Pattern, parsePattern } from "../subjects/pattern.ts";
import type { RecipientAddress } from "./address.ts";

/** What routes look at in a message. */
export interface RoutedMessage {
	/** The type's canonical form. */
	readonly type: string;
	readonly sender: string;
	/** What messages have in common that a split sends the same way; empty: nothing. */
	readonly key: string;
}

/** A copy that a route asks for. */
export interface MirrorCopy {
	readonly route: string;
	readonly recipient: string;
}

/** Where routes lead a message. */
export interface Journey {
	/** The plugin that was reached; empty where the message was refused before one was. */
	readonly recipient: string;
	/** The route that refuses the message. */
	readonly denial?: { readonly route: string; readonly reason: string } | undefined;
	readonly mirrors: readonly MirrorCopy[];
}

/** Routes that one message may follow. */
export const MAX_HOPS = 8;

/** Of a journey on which no route asks for a copy. */
export const NO_MIRRORS: readonly MirrorCopy[] = Object.freeze([]);
const SPLIT_SEED = 0x5eed;

interface CompiledRoute {
	readonly route: Route;
	readonly types: readonly Pattern[];
	/** Undefined: any. */
	readonly senders: ReadonlySet<string> | undefined;
	/** Of a split, in all. */
	readonly weight: number;
}

/** The order in which routes are asked. */
export function compareRoutes(a: Route, b: Route): number {
	return b.priority - a.priority || (a.name < b.name ? -1 : 1);
}

/** Routes as they stand at one time, ready to be asked. */
export class RouteTable {
	/** In the order in which they are asked. */
	readonly routes: readonly Route[];
	readonly #ids: IdSource;
	readonly #byAlias = new Map<string, CompiledRoute[]>();
	readonly #byRecipient = new Map<string, CompiledRoute[]>();
	/** Those for any address. They are in the lists of every alias and recipient that is named too, at their place. */
	readonly #unaddressed: CompiledRoute[] = [];

	/** `routes` were checked when they were put, and have different names. */
	constructor(routes: readonly Route[], ids: IdSource) {
		this.#ids = ids;
		this.routes = routes.toSorted(compareRoutes);
		for (const { match } of this.routes) {
			const { case: kind, value = "" } = match?.address ?? {};
			if (kind === "alias") this.#byAlias.set(value, []);
			else if (kind === "recipient") this.#byRecipient.set(value, []);
		}
		for (const route of this.routes) this.#add(compile(route));
	}

	get isEmpty(): boolean {
		return this.routes.length === 0;
	}

	/** `resolve` finds the plugin of an address that no route leads on from, or refuses. Refuses beyond `MAX_HOPS` with NO_ROUTE. */
	follow(address: RecipientAddress, message: RoutedMessage, resolve: (address: RecipientAddress) => string): Journey {
		let at = address;
		let mirrors: MirrorCopy[] | undefined;
		const taken: CompiledRoute[] = [];
		for (;;) {
			let next: string | undefined;
			for (const candidate of this.#for(at)) {
				const { route } = candidate;
				if (!matches(candidate, message) || taken.includes(candidate)) continue;
				const { action } = route;
				if (action.case === "mirror") {
					taken.push(candidate);
					mirrors ??= [];
					mirrors.push({ route: route.name, recipient: action.value });
					continue;
				}
				if (action.case === "deny") {
					const recipient = at.kind === "plugin" ? at.name : "";
					return { recipient, denial: { route: route.name, reason: action.value.reason }, mirrors: NO_MIRRORS };
				}
				taken.push(candidate);
				next = this.#target(candidate, message);
				break;
			}
			if (next === undefined && at.kind === "plugin") break;
			at = { kind: "plugin", name: next ?? resolve(at) };
			if (taken.length - (mirrors?.length ?? 0) > MAX_HOPS) throw tooFar(address);
		}
		const { name: recipient } = at;
		return { recipient, mirrors: mirrors?.filter((mirror) => mirror.recipient !== recipient) ?? NO_MIRRORS };
	}

	#for({ kind, name }: RecipientAddress): readonly CompiledRoute[] {
		if (kind === "plugin") return this.#byRecipient.get(name) ?? this.#unaddressed;
		return (kind === "alias" ? this.#byAlias.get(name) : undefined) ?? this.#unaddressed;
	}

	#add(compiled: CompiledRoute): void {
		const { case: kind, value = "" } = compiled.route.match?.address ?? {};
		if (kind === "alias") this.#byAlias.get(value)!.push(compiled);
		else if (kind === "recipient") this.#byRecipient.get(value)!.push(compiled);
		else {
			this.#unaddressed.push(compiled);
			for (const list of this.#byAlias.values()) list.push(compiled);
			for (const list of this.#byRecipient.values()) list.push(compiled);
		}
	}

	#target({ route: { name, action }, weight }: CompiledRoute, { key }: RoutedMessage): string | undefined {
		if (action.case === "alias" || action.case === "redirect") return action.value;
		if (action.case !== "split") return undefined;
		const { high } = hashText(`${name}\n${key === "" ? this.#ids.next() : key}`, SPLIT_SEED);
		let place = Math.floor((high / 2 ** 32) * weight);
		for (const target of action.value.targets) {
			if (place < target.weight) return target.pluginId;
			place -= target.weight;
		}
		throw new Error("a split's weights add up to its weight");
	}
}

function compile(route: Route): CompiledRoute {
	const { match, action } = route;
	return {
		route,
		types: (match?.types ?? []).map((type) => parsePattern(type, "match.types")),
		senders: match === undefined || match.senders.length === 0 ? undefined : new Set(match.senders),
		weight: action.case === "split" ? action.value.targets.reduce((sum, { weight }) => sum + weight, 0) : 0,
	};
}

function matches({ types, senders }: CompiledRoute, { type, sender }: RoutedMessage): boolean {
	if (senders !== undefined && !senders.has(sender)) return false;
	return types.length === 0 || types.some((pattern) => pattern.matches(type));
}

function tooFar({ kind, name }: RecipientAddress): HubError {
	return new HubError("NO_ROUTE", `more than ${MAX_HOPS} routes lead on from the ${kind}`, {
		metadata: { [kind]: name },
		resource: { type: kind, name },
	});
}
