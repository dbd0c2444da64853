import { type Client, createClient } from "@connectrpc/connect";
import { MessagingService } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import type { ClientContext } from "./client-context.ts";
import { toClientError } from "./errors.ts";
import { type Expected, toExpectedState } from "./expected.ts";
import { fromStoredRoute, type Route, type RouteDraft, toRoute } from "./route.ts";

export interface RouteChangeOptions {
	/** What the route of this name must be like, else REVISION_MISMATCH. Default: anything. */
	readonly expected?: Expected;
	/** 1-128 characters: a repeat within two minutes gets the first answer. Default: an id of its own. */
	readonly requestId?: string;
	/** Checks everything and changes nothing. Default false. */
	readonly validateOnly?: boolean;
	readonly signal?: AbortSignal;
}

/** What became of a change. */
export interface RoutePut {
	/** As it is stored. With `validateOnly` its revision is the present one, 0 where there is none. */
	readonly route: Route;
	/** Whether the request id was seen before. */
	readonly duplicate: boolean;
}

/**
 * Where messages go, which operators decide: connect with an operator's token and without a manifest. Every call of a
 * plugin's rejects with CALLER_NOT_ALLOWED.
 */
export class Routes {
	readonly #context: ClientContext;
	readonly #client: Client<typeof MessagingService>;

	constructor(context: ClientContext) {
		this.#context = context;
		this.#client = createClient(MessagingService, context.transport);
	}

	/**
	 * Makes the route, or replaces the one of its name. It is in force at once. Rejects with INVALID_FIELD, also where messages
	 * would go in a circle, REVISION_MISMATCH, LIMIT_EXCEEDED beyond 1,000 routes, and ID_REUSED.
	 */
	async put(route: RouteDraft, options: RouteChangeOptions = {}): Promise<RoutePut> {
		const request = { route: toRoute(route), ...this.#change(options) };
		const answer = await this.#call((call) => this.#client.putRoute(request, call), options.signal);
		return { route: fromStoredRoute(answer.route!), duplicate: answer.duplicate };
	}

	/** Rejects with ROUTE_NOT_FOUND. */
	async get(name: string, options: { readonly signal?: AbortSignal } = {}): Promise<Route> {
		const answer = await this.#call((call) => this.#client.getRoute({ name }, call), options.signal);
		return fromStoredRoute(answer.route!);
	}

	/** All of them in the order in which they are asked; asks for a page at a time. */
	async *list({ signal }: { readonly signal?: AbortSignal } = {}): AsyncGenerator<Route, void, undefined> {
		let pageToken = "";
		do {
			const page = await this.#call((call) => this.#client.listRoutes({ pageToken, pageSize: 100 }, call), signal);
			for (const route of page.routes) yield fromStoredRoute(route);
			pageToken = page.nextPageToken;
		} while (pageToken !== "");
	}

	/** True where the request id was seen before. Rejects with ROUTE_NOT_FOUND, REVISION_MISMATCH and ID_REUSED. */
	async delete(name: string, options: RouteChangeOptions = {}): Promise<boolean> {
		const request = { name, ...this.#change(options) };
		const { duplicate } = await this.#call((call) => this.#client.deleteRoute(request, call), options.signal);
		return duplicate;
	}

	#change({ expected, requestId = this.#context.ids.next(), validateOnly = false }: RouteChangeOptions) {
		const state = toExpectedState(expected);
		return { requestId, validateOnly, ...(state && { expected: state }) };
	}

	async #call<R>(
		call: (options: { signal: AbortSignal; timeoutMs: number }) => Promise<R>,
		outer: AbortSignal | undefined,
	): Promise<R> {
		const { session, callTimeoutMs } = this.#context;
		const signal = outer === undefined ? session.signal : AbortSignal.any([session.signal, outer]);
		try {
			return await call({ signal, timeoutMs: callTimeoutMs });
		} catch (error) {
			throw session.signal.aborted ? session.failure : toClientError(error, signal);
		}
	}
}
