import type { DescService, MessageInitShape } from "@bufbuild/protobuf";
import { type Client, createClient, type Transport } from "@connectrpc/connect";
import type { GetHubInfoResponse } from "#gen/qirvo/hub/v1/hub_service_pb.js";
import { type CapabilitiesSchema, type Plugin, PluginService } from "#gen/qirvo/hub/v1/plugin_service_pb.js";
import type { Clock, IdSource } from "../clock/clock.ts";
import type { ClientContext } from "./client-context.ts";
import { createClientIds } from "./client-ids.ts";
import { Credential, type Token, withCredential } from "./credential.ts";
import { DeadLetters } from "./dead-letters.ts";
import type { DeliveryPolicy } from "./delivery-policy.ts";
import { HubClientError } from "./errors.ts";
import { Events } from "./events.ts";
import { type ClientLogger, defaultLogger } from "./logger.ts";
import { Messages } from "./messages.ts";
import { pause } from "./pause.ts";
import type { Data } from "./payload.ts";
import { Routes } from "./routes.ts";
import { type ConnectionState, SessionLoop } from "./session-loop.ts";
import { Store, type StoreOptions } from "./store.ts";
import { StoreTraffic } from "./store-traffic.ts";
import { Stores } from "./stores.ts";
import { timerClock } from "./timer-clock.ts";

export interface HubClientOptions {
	/** The bearer token of a plugin or an operator, or what gives one. May be left out with a hub in development mode, which answers with one. */
	readonly token?: Token;
	/** The plugin's manifest, as an object or as JSON text. Without one the client calls the hub and is no plugin instance, as an operator's. */
	readonly manifest?: object | string;
	/** What the plugin provides and requires. */
	readonly capabilities?: MessageInitShape<typeof CapabilitiesSchema>;
	/** Messages that handlers work on at once, 1-10,000. Default 64. */
	readonly maxInFlight?: number;
	/** How durable messages are repeated until a handler has done with them. */
	readonly delivery?: DeliveryPolicy;
	/** How long `connect` goes on trying, in milliseconds. Default 15 s. */
	readonly connectTimeout?: number;
	/** How long one unary call may take, in milliseconds. Default 10 s. */
	readonly callTimeout?: number;
	/** Default: warnings and errors to the console. */
	readonly logger?: ClientLogger;
	/** Told of each change of the connection, with the error that caused it. */
	readonly onStateChange?: (state: ConnectionState, error?: HubClientError) => void;
	/** Default: the machine's clock. */
	readonly clock?: Clock;
	/** Default: random ids. */
	readonly ids?: IdSource;
	/** Uniform in [0, 1). Default: `Math.random`. */
	readonly random?: () => number;
}

/** A transport and what it can do. */
export interface ClientTransport {
	readonly transport: Transport;
	/** Whether it can stream both ways. */
	readonly bidi: boolean;
	/** Closes what the transport holds open. */
	readonly close?: () => void | Promise<void>;
}

/**
 * A connection to the hub that looks after itself: it registers, keeps the lease, comes back after a loss, and goes on
 * where it was. Dispose of it to end its streams and timers; the registration stays.
 */
export class HubClient implements AsyncDisposable {
	/** Publishing and subscribing. */
	readonly events: Events;
	/** Direct messages and requests. */
	readonly messages: Messages;
	/** Durable messages that could not be delivered. */
	readonly deadLetters: DeadLetters;
	/** Making and changing stores. */
	readonly stores: Stores;
	/** Where messages go; for operators. */
	readonly routes: Routes;
	/** Carries the client's credential: for `createClient` with any of the hub's services. */
	readonly transport: Transport;
	readonly #session: SessionLoop;
	readonly #traffic: StoreTraffic;
	readonly #close: ClientTransport["close"];
	readonly #callTimeoutMs: number;

	constructor({ transport, bidi, close }: ClientTransport, options: HubClientOptions) {
		const { clock = timerClock, ids = createClientIds(), random = Math.random, logger = defaultLogger } = options;
		const { manifest, capabilities, callTimeout = 10_000 } = options;
		const credential = new Credential(options.token);
		this.#close = close;
		this.#callTimeoutMs = callTimeout;
		this.transport = withCredential(transport, credential);
		this.#session = new SessionLoop({
			transport: this.transport,
			credential,
			registration: manifest === undefined ? undefined : { manifestJson: manifestText(manifest), capabilities },
			clock,
			random,
			logger,
			callTimeoutMs: callTimeout,
			onStateChange: options.onStateChange ?? (() => {}),
		});
		const context: ClientContext = {
			transport: this.transport,
			session: this.#session,
			clock,
			ids,
			random,
			logger,
			bidi,
			callTimeoutMs: callTimeout,
		};
		this.events = new Events(context);
		this.messages = new Messages(context, { maxInFlight: options.maxInFlight ?? 64, delivery: options.delivery ?? {} });
		this.deadLetters = new DeadLetters(context);
		this.stores = new Stores(context);
		this.#traffic = new StoreTraffic(context);
		this.routes = new Routes(context);
	}

	/**
	 * Opens a client and waits until it is connected. Rejects with the hub's refusal, or with what stood in the way when
	 * `connectTimeout` is over.
	 */
	static async connect(transport: ClientTransport, options: HubClientOptions): Promise<HubClient> {
		const { clock = timerClock, connectTimeout = 15_000 } = options;
		const client = new HubClient(transport, options);
		const settled = new AbortController();
		client.#session.start();
		try {
			const connected = client.#session.connected();
			connected.catch(() => {});
			const late = pause(clock, connectTimeout, settled.signal).then(() => undefined);
			if (!(await Promise.race([connected, late]))) {
				throw (
					client.#session.lastError ??
					new HubClientError("CONNECTION_LOST", `the hub did not answer within ${connectTimeout} ms`)
				);
			}
			return client;
		} catch (error) {
			await client[Symbol.asyncDispose]();
			throw error;
		} finally {
			settled.abort();
		}
	}

	get state(): ConnectionState {
		return this.#session.state;
	}

	/** This plugin as the hub registered it; undefined without a manifest, and while the connection is lost. */
	get plugin(): Plugin | undefined {
		return this.#session.current?.plugin;
	}

	/** The lease of this instance; empty without a manifest, and while the connection is lost. */
	get instanceId(): string {
		return this.#session.current?.instanceId ?? "";
	}

	/** What the hub said of itself; undefined while the connection is lost. */
	get info(): GetHubInfoResponse | undefined {
		return this.#session.current?.info;
	}

	/**
	 * The entries of a store; asks the hub nothing. With a cache it is to be disposed of when it is no longer needed.
	 *
	 * ```ts
	 * const notes = hub.store("notes", { schema: Note });
	 * ```
	 */
	store<T = Data>(name: string, options: StoreOptions<T> = {}): Store<T> {
		return new Store<T>(this.#traffic, name, options);
	}

	/** A generated client of any service of the hub, with this client's credential. */
	service<S extends DescService>(service: S): Client<S> {
		return createClient(service, this.transport);
	}

	/** Ends the registration itself: grants and instances go. The client is of no use for the plugin afterwards. */
	async unregister(): Promise<void> {
		await this.service(PluginService).unregister({}, { timeoutMs: this.#callTimeoutMs });
	}

	/** Ends streams and timers at once. What has no answer yet fails with CLIENT_CLOSED. The registration stays. */
	async [Symbol.asyncDispose](): Promise<void> {
		await this.#session[Symbol.asyncDispose]();
		await this.#close?.();
	}

	/** The same as disposing of it. */
	close(): Promise<void> {
		return this[Symbol.asyncDispose]();
	}
}

function manifestText(manifest: object | string): string {
	return typeof manifest === "string" ? manifest : JSON.stringify(manifest);
}
