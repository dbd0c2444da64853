import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Client, createClient, type Transport } from "@connectrpc/connect";
import { type GetHubInfoResponse, HubService } from "#gen/qirvo/hub/v1/hub_service_pb.js";
import { type CapabilitiesSchema, type Plugin, PluginService } from "#gen/qirvo/hub/v1/plugin_service_pb.js";
import type { Clock } from "../clock/clock.ts";
import { Backoff } from "../streams/backoff.ts";
import type { Credential } from "./credential.ts";
import { durationMs } from "./durations.ts";
import { cancelled, clientClosed, HubClientError, toClientError } from "./errors.ts";
import type { ClientLogger } from "./logger.ts";
import { pause } from "./pause.ts";

/**
 * `connecting` at first, `ready`, `reconnecting` after a loss; `failed` once the hub refuses the client for good (its
 * credential, its manifest), `closed` after disposal.
 */
export type ConnectionState = "connecting" | "ready" | "reconnecting" | "failed" | "closed";

/** What holds between two losses. */
export interface Connection {
	/** The lease that this client holds; empty without a manifest. */
	readonly instanceId: string;
	/** As the hub registered it; undefined without a manifest. */
	readonly plugin: Plugin | undefined;
	readonly info: GetHubInfoResponse;
	/** Aborts when the connection is lost or the client closes. */
	readonly signal: AbortSignal;
	/** Says that it is lost. Of no effect on a later connection. */
	lost(error: HubClientError): void;
}

/** What the plugin says of itself. */
export interface Registration {
	readonly manifestJson: string;
	readonly capabilities?: MessageInitShape<typeof CapabilitiesSchema>;
}

export interface SessionLoopOptions {
	readonly transport: Transport;
	readonly credential: Credential;
	/** Undefined: the client only calls, it is no instance of a plugin. */
	readonly registration: Registration | undefined;
	readonly clock: Clock;
	readonly random: () => number;
	readonly logger: ClientLogger;
	/** How long one of the loop's own calls may take, in milliseconds. */
	readonly callTimeoutMs: number;
	readonly onStateChange: (state: ConnectionState, error?: HubClientError) => void;
}

/** A connection that lived this long was a good one: the next wait is a first wait again. */
const SETTLED_AFTER_MS = 5_000;
const FIRST_WAIT_MS = 100;
const LONGEST_WAIT_MS = 10_000;
const DEFAULT_LEASE_MS = 30_000;

/**
 * Owns the state of the connection: registers, renews the lease at a third of its length, registers again when the lease
 * is gone, and comes back after a loss, waiting longer each time. Streams wait for `connected` and report what they see
 * through `lost`, so that one loop decides when to try again.
 */
export class SessionLoop implements AsyncDisposable {
	readonly #options: SessionLoopOptions;
	readonly #plugins: Client<typeof PluginService>;
	readonly #hub: Client<typeof HubService>;
	readonly #closing = new AbortController();
	readonly #waiting = new Set<() => void>();
	#state: ConnectionState = "connecting";
	#connection: Connection | undefined;
	#failure: HubClientError | undefined;
	#instanceId = "";
	#plugin: Plugin | undefined;
	#leaseMs = DEFAULT_LEASE_MS;
	#running: Promise<void> | undefined;
	#lastError: HubClientError | undefined;
	#drop: ((error: HubClientError) => void) | undefined;

	constructor(options: SessionLoopOptions) {
		this.#options = options;
		this.#plugins = createClient(PluginService, options.transport);
		this.#hub = createClient(HubService, options.transport);
	}

	get state(): ConnectionState {
		return this.#state;
	}

	/** Aborts when the client closes or has failed for good. */
	get signal(): AbortSignal {
		return this.#closing.signal;
	}

	/** The connection, where there is one now. */
	get current(): Connection | undefined {
		return this.#connection?.signal.aborted ? undefined : this.#connection;
	}

	/** What broke the connection last. */
	get lastError(): HubClientError | undefined {
		return this.#lastError;
	}

	/** Why nothing can be done any more, once that is so. */
	get failure(): HubClientError {
		return this.#failure ?? clientClosed();
	}

	start(): void {
		this.#running ??= this.#run();
	}

	/** The connection, as soon as there is one. Rejects when the client fails for good or closes, and on the signal. */
	async connected(signal?: AbortSignal): Promise<Connection> {
		while (true) {
			if (signal?.aborted) throw cancelled(signal);
			const connection = this.current;
			if (connection) return connection;
			if (this.#failure) throw this.#failure;
			await new Promise<void>((resolve) => {
				const done = () => {
					this.#waiting.delete(done);
					signal?.removeEventListener("abort", done);
					resolve();
				};
				this.#waiting.add(done);
				signal?.addEventListener("abort", done, { once: true });
			});
		}
	}

	/** Ends the loop; what waits for a connection is told that the client is closed. */
	async [Symbol.asyncDispose](): Promise<void> {
		this.#end("closed", clientClosed());
		await this.#running;
	}

	async #run(): Promise<void> {
		const { clock, random, logger } = this.#options;
		const backoff = new Backoff({ initialMs: FIRST_WAIT_MS, maxMs: LONGEST_WAIT_MS, random });
		const closing = this.#closing.signal;
		while (!closing.aborted) {
			const { connection, lost } = openConnection();
			const started = clock.monotonic();
			let error: HubClientError;
			this.#drop = connection.lost;
			try {
				const info = await this.#establish();
				if (closing.aborted) return;
				this.#connection = { ...connection, instanceId: this.#instanceId, plugin: this.#plugin, info };
				this.#change("ready");
				error = await (this.#options.registration ? Promise.race([lost, this.#keepLease(connection.signal)]) : lost);
			} catch (thrown) {
				error = toClientError(thrown, closing);
			}
			connection.lost(error);
			this.#lastError = error;
			this.#connection = undefined;
			if (closing.aborted) return;
			if (!this.#mayReturn(error)) return this.#end("failed", error);
			if (clock.monotonic() - started >= SETTLED_AFTER_MS) backoff.reset();
			this.#change(this.#state === "connecting" ? "connecting" : "reconnecting", error);
			const wait = Math.max(backoff.next(), error.retryAfterMs ?? 0);
			logger.debug({ err: error, wait }, "the connection to the hub is lost; coming back");
			await pause(clock, wait, closing);
		}
	}

	/** Carries the lease on where it still holds, which tells nobody anything; else registers. */
	async #establish(): Promise<GetHubInfoResponse> {
		const { credential, registration } = this.#options;
		await credential.refresh();
		if (registration && !(this.#instanceId !== "" && (await this.#renew()))) await this.#register(registration);
		return this.#hub.getHubInfo({}, this.#callOptions());
	}

	async #register(registration: Registration): Promise<void> {
		const request = { ...registration, instanceId: this.#instanceId };
		const response = await this.#plugins.register(request, this.#callOptions());
		if (response.token !== "") this.#options.credential.accept(response.token);
		this.#instanceId = response.instanceId;
		this.#plugin = response.plugin;
		if (response.lease) this.#leaseMs = durationMs(response.lease);
	}

	/** False where the hub no longer knows the instance. */
	async #renew(): Promise<boolean> {
		try {
			const { lease } = await this.#plugins.heartbeat({ instanceId: this.#instanceId }, this.#callOptions());
			if (lease) this.#leaseMs = durationMs(lease);
			return true;
		} catch (thrown) {
			const error = toClientError(thrown);
			if (error.reason === "INSTANCE_NOT_FOUND" || error.reason === "PLUGIN_NOT_FOUND") return false;
			throw error;
		}
	}

	/** Ends with the loss that it notices, or that the signal tells it of. */
	async #keepLease(signal: AbortSignal): Promise<HubClientError> {
		const { clock } = this.#options;
		while (!signal.aborted) {
			await pause(clock, this.#leaseMs / 3, signal);
			if (signal.aborted) break;
			try {
				if (!(await this.#renew())) {
					return new HubClientError("INSTANCE_NOT_FOUND", "the lease is over; registering again");
				}
			} catch (error) {
				return toClientError(error, signal);
			}
		}
		return toClientError(signal.reason);
	}

	#mayReturn(error: HubClientError): boolean {
		if (error.isTransient || error.reason === "INSTANCE_NOT_FOUND") return true;
		return error.reason.startsWith("CREDENTIAL_") && this.#options.credential.mayRenew(error.reason);
	}

	#callOptions() {
		return { signal: this.#closing.signal, timeoutMs: this.#options.callTimeoutMs };
	}

	#end(state: "failed" | "closed", error: HubClientError): void {
		if (this.#failure) return;
		this.#failure = error;
		this.#connection = undefined;
		this.#closing.abort(error);
		this.#drop?.(error);
		this.#change(state, error);
	}

	#change(state: ConnectionState, error?: HubClientError): void {
		for (const wake of [...this.#waiting]) wake();
		if (state === this.#state) return;
		this.#state = state;
		try {
			this.#options.onStateChange(state, error);
		} catch (thrown) {
			this.#options.logger.error({ err: thrown }, "onStateChange threw");
		}
	}
}

function openConnection() {
	const controller = new AbortController();
	const { promise: lost, resolve } = Promise.withResolvers<HubClientError>();
	const connection = {
		signal: controller.signal,
		lost(error: HubClientError) {
			resolve(error);
			controller.abort(error);
		},
	};
	return { connection, lost };
}
