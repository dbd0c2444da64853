import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { RouteRecordSchema } from "#gen/qirvo/hub/storage/v1/records_pb.js";
import { PutRouteResponseSchema, type Route } from "#gen/qirvo/hub/v1/routes_pb.js";
import type { Clock, IdSource } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import type { AnswerCodec, CommitPlan, FirstAnswers, RepeatableRequest } from "../idempotency/first-answers.ts";
import { type ExpectedRevision, requireRevision } from "../state/expected-revision.ts";
import { KeyFollower } from "../state/key-follower.ts";
import { keys, prefixes } from "../state/key-layout.ts";
import { KV_LIMITS, type KvEntry, type KvStore, type KvWrite } from "../state/kv-store.ts";
import { prefixEnd } from "../state/state-backend.ts";
import { parseSubject } from "../subjects/subject.ts";
import type { RecipientAddress } from "./address.ts";
import type { MessageDraft } from "./message-draft.ts";
import { findCircle } from "./route-circle.ts";
import { compareRoutes, type Journey, NO_MIRRORS, RouteTable } from "./route-table.ts";

export interface RoutesOptions {
	readonly kv: KvStore;
	readonly answers: FirstAnswers;
	readonly clock: Clock;
	readonly ids: IdSource;
}

/** How a change is made. */
export interface RouteChange {
	readonly expected: ExpectedRevision;
	/** Checks everything and changes nothing. */
	readonly validateOnly: boolean;
	readonly request?: RepeatableRequest | undefined;
	/** Further writes for the same commit. */
	readonly also: readonly KvWrite[];
}

/** A route and its revision. */
export interface RevisedRoute {
	readonly route: Route;
	readonly revision: number;
}

/** What became of a change. */
export interface ChangedRoute {
	/** As it is stored; of a deleted one as it was. */
	readonly route: RevisedRoute;
	readonly duplicate: boolean;
	/** Whether something was stored now. */
	readonly stored: boolean;
}

const MAX_ROUTES = 1000;

/** The routes that operators set: stored, and in force as soon as this hub sees a change of them, its own or another's. */
export class Routes implements AsyncDisposable {
	readonly #options: RoutesOptions;
	readonly #follower: KeyFollower;
	/** Undefined: something changed since it was made. */
	#table: RouteTable | undefined;

	constructor(options: RoutesOptions) {
		this.#options = options;
		const changed = () => this.#changed();
		this.#follower = new KeyFollower({ ...options, prefix: prefixes.routes, changed, missed: changed });
	}

	/** Begins to follow changes. */
	start(): void {
		this.#follower.start();
	}

	/** What is in force now. */
	get table(): RouteTable {
		this.#table ??= new RouteTable(
			this.#stored().map(({ value }) => routeOf(value)),
			this.#options.ids,
		);
		return this.#table;
	}

	/** Where a message goes that is addressed so. Refuses as `resolve` and `RouteTable.follow` do. */
	lead(
		to: RecipientAddress,
		{ type, orderingKey, id }: MessageDraft,
		sender: string,
		resolve: (address: RecipientAddress) => string,
	): Journey {
		const { table } = this;
		if (table.isEmpty) return { recipient: resolve(to), mirrors: NO_MIRRORS };
		const key = orderingKey === "" ? id : orderingKey;
		return table.follow(to, { type: parseSubject(type, "type").canonical, sender, key }, resolve);
	}

	/** Refuses with ROUTE_NOT_FOUND. */
	get(name: string): RevisedRoute {
		const entry = this.#options.kv.get(keys.route(name));
		if (entry === undefined) throw notFound(name);
		return { route: routeOf(entry.value), revision: entry.revision };
	}

	/** In the order in which they are asked; at most `limit`, behind `after`. */
	list(limit: number, after: Pick<Route, "priority" | "name"> | undefined): readonly RevisedRoute[] {
		const all = this.#stored().map((entry) => ({ route: routeOf(entry.value), revision: entry.revision }));
		const behind = all.filter(({ route }) => after === undefined || isBehind(route, after));
		return behind.toSorted((a, b) => compareRoutes(a.route, b.route)).slice(0, limit);
	}

	/**
	 * Makes or replaces a route. Rejects with INVALID_FIELD where routes would then go round in a circle, REVISION_MISMATCH,
	 * LIMIT_EXCEEDED, and as `FirstAnswers.settle` does.
	 */
	put(route: Route, change: RouteChange): Promise<ChangedRoute> {
		const key = keys.route(route.name);
		return this.#change(route.name, change, (revision) => {
			const others = this.#stored().filter((entry) => entry.key !== key);
			if (revision === 0 && others.length >= MAX_ROUTES) throw tooMany();
			const circle = findCircle([...others.map(({ value }) => routeOf(value)), route]);
			if (circle !== undefined) {
				throw HubError.field("route", `messages would go in a circle: ${circle.slice(0, 10).join(" -> ")}`);
			}
			return { route, write: { key, value: toBinary(RouteRecordSchema, create(RouteRecordSchema, { route })) } };
		});
	}

	/** Rejects with ROUTE_NOT_FOUND, REVISION_MISMATCH, and as `FirstAnswers.settle` does. */
	delete(name: string, change: RouteChange): Promise<ChangedRoute> {
		return this.#change(name, change, () => ({
			route: this.get(name).route,
			write: { key: keys.route(name), delete: true },
		}));
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.#follower[Symbol.asyncDispose]();
	}

	async #change(
		name: string,
		{ expected, validateOnly, request, also }: RouteChange,
		draft: (revision: number) => { readonly route: Route; readonly write: KvWrite },
	): Promise<ChangedRoute> {
		const { kv, answers } = this.#options;
		let before = 0;
		const plan = (): CommitPlan<Route> => {
			before = kv.get(keys.route(name))?.revision ?? 0;
			const set = kv.get(keys.routeSet)?.revision ?? 0;
			const { route, write } = draft(before);
			requireRevision(expected, before, { type: "route", name });
			if (validateOnly) return { checks: [], writes: [], answer: route };
			return {
				checks: [{ key: keys.routeSet, revision: set }],
				writes: [write, { key: keys.routeSet, value: new Uint8Array() }, ...also],
				answer: route,
			};
		};
		const once = request === undefined || validateOnly ? undefined : { request, codec: ANSWERS };
		const { answer, duplicate, firstRevision } = await answers.settle(plan, once);
		this.#changed();
		const stored = !duplicate && !validateOnly;
		return { route: { route: answer, revision: validateOnly ? before : firstRevision }, duplicate, stored };
	}

	#stored(): readonly KvEntry[] {
		const { kv } = this.#options;
		const end = prefixEnd(prefixes.routes);
		const entries: KvEntry[] = [];
		let start: string = prefixes.routes;
		for (let more = true; more; ) {
			const page = kv.range({ start, end, limit: KV_LIMITS.pageEntries });
			entries.push(...page.entries);
			more = page.more;
			start = `${entries.at(-1)?.key ?? ""}\0`;
		}
		return entries;
	}

	#changed(): void {
		this.#table = undefined;
	}
}

const ANSWERS: AnswerCodec<Route> = {
	encode: (route) => toBinary(PutRouteResponseSchema, create(PutRouteResponseSchema, { route: { route } })),
	decode: (bytes) => fromBinary(PutRouteResponseSchema, bytes).route!.route!,
};

function routeOf(value: Uint8Array): Route {
	return fromBinary(RouteRecordSchema, value).route!;
}

function isBehind(route: Route, { priority, name }: Pick<Route, "priority" | "name">): boolean {
	return route.priority < priority || (route.priority === priority && route.name > name);
}

function notFound(name: string): HubError {
	return new HubError("ROUTE_NOT_FOUND", `there is no route "${name}"`, {
		metadata: { name },
		resource: { type: "route", name },
	});
}

function tooMany(): HubError {
	return new HubError("LIMIT_EXCEEDED", `there are ${MAX_ROUTES} routes, which is the limit`, {
		metadata: { limit: String(MAX_ROUTES) },
		quota: { subject: "hub", description: `at most ${MAX_ROUTES} routes` },
	});
}
