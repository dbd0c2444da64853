import type { IncomingMessage, ServerResponse } from "node:http";
import {
	createServer as createHttp2,
	type Http2Server,
	type Http2ServerRequest,
	type Http2ServerResponse,
} from "node:http2";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import type { Clock, IdSource } from "../clock/clock.ts";
import type { MountedService } from "../rpc/call.ts";
import { ConnectLane } from "../rpc/connect-lane.ts";
import { FastLane } from "../rpc/fast-lane.ts";
import { METHOD_POLICIES, type MethodPolicies } from "../rpc/method-policy.ts";
import { mountMethods } from "../rpc/method-table.ts";
import { Pipeline, type RateGate, type RefusalListener } from "../rpc/pipeline.ts";
import type { Authenticator, PeerInfo } from "../security/caller.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { Cors, type CorsOptions } from "./cors.ts";
import type { HostRule } from "./host-rule.ts";
import { Http1Connections } from "./http1-connections.ts";
import { Http2Sessions } from "./http2-sessions.ts";
import { sniff, type WireProtocol } from "./protocol-sniffer.ts";
import { SERVER_LIMITS, type ServerLimits } from "./server-limits.ts";
import { TlsListener, type TlsOptions } from "./tls-listener.ts";

export type HttpRequest = IncomingMessage | Http2ServerRequest;
export type HttpResponse = ServerResponse | Http2ServerResponse;

/** Answers requests that are not RPCs, such as `/livez`. True where it took the request. */
export type HttpRoutes = (request: HttpRequest, response: HttpResponse, peer: PeerInfo) => boolean;

export interface RpcServerOptions {
	readonly services: readonly MountedService[];
	readonly authenticator: Authenticator;
	readonly logger: Logger;
	readonly metrics: Metrics;
	readonly clock: Clock;
	readonly ids: IdSource;
	readonly rateGate?: RateGate;
	readonly refusals?: RefusalListener;
	/** Default: the table of every RPC of the hub. */
	readonly policies?: MethodPolicies;
	/** Overrides of `SERVER_LIMITS`. */
	readonly limits?: Partial<ServerLimits>;
	/** Default: no origin. */
	readonly cors?: CorsOptions;
	/** Where given, cleartext is refused. */
	readonly tls?: TlsOptions;
	/** False: the Connect lane answers plain gRPC too. Default true. */
	readonly fastLane?: boolean;
	readonly httpRoutes?: HttpRoutes;
	/** What does not pass is answered with 403 and nothing else. Default: everything passes. */
	readonly hosts?: HostRule;
}

/** The hub's one port: TLS, HTTP/2 and HTTP/1.1 on it, and every RPC on both lanes. */
export class RpcServer implements AsyncDisposable {
	readonly #options: RpcServerOptions;
	readonly #limits: ServerLimits;
	readonly #pipeline: Pipeline;
	readonly #fastLane: FastLane | undefined;
	readonly #connectLane: ConnectLane;
	readonly #cors: Cors;
	readonly #port: Server;
	readonly #sessions: Http2Sessions;
	readonly #http1: Http1Connections;
	readonly #tls: TlsListener | undefined;
	/** Makes Node's request objects for the streams that the fast lane does not take. It never listens. */
	readonly #compat: Http2Server;
	/** Every accepted connection, so that a stop leaves none behind. */
	readonly #sockets = new Set<Socket>();
	/** Told when the last connection ends during a stop. */
	#emptied: (() => void) | undefined;
	#stopped: Promise<void> | undefined;

	constructor(options: RpcServerOptions) {
		this.#options = options;
		const { services, metrics, clock, logger, policies = METHOD_POLICIES } = options;
		const limits: ServerLimits = { ...SERVER_LIMITS, ...options.limits };
		this.#limits = limits;
		const methods = mountMethods(services, policies, metrics);
		const pipeline = new Pipeline({ ...options, limits });
		this.#pipeline = pipeline;
		this.#fastLane =
			options.fastLane === false ? undefined : new FastLane({ methods, pipeline, clock, lingerMs: limits.lingerMs });
		this.#connectLane = new ConnectLane({ methods, pipeline, clock, lingerMs: limits.lingerMs });
		this.#cors = new Cors(options.cors ?? { origins: [] });
		this.#compat = createHttp2((request, response) => {
			this.#answer(request, response, peerOf(request.stream.session?.socket as Socket | undefined));
		});
		this.#sessions = new Http2Sessions(clock, limits, logger, (stream, headers, flags, rawHeaders, peer) => {
			if (options.hosts?.(headers) !== false && this.#fastLane?.take(stream, headers, peer)) return;
			this.#compat.emit("stream", stream, headers, flags, rawHeaders);
		});
		this.#http1 = new Http1Connections(limits, (request, response) => {
			this.#answer(request, response, peerOf(request.socket));
		});
		if (options.tls) {
			this.#tls = new TlsListener(options.tls, limits.handshakeMs, clock, logger, (socket) => this.#secured(socket));
		}
		// TCP's own keepalive is for HTTP/1.1, which has no ping.
		const keepalive = { keepAlive: true, keepAliveInitialDelay: limits.keepaliveIntervalMs };
		this.#port = createServer({ noDelay: true, ...keepalive }, (socket) => this.#accept(socket));
		this.#port.maxConnections = limits.connections;
	}

	/** HTTP/2 sessions that are open. */
	get openSessions(): number {
		return this.#sessions.openSessions;
	}

	/** HTTP/2 streams that are open. */
	get openStreams(): number {
		return this.#sessions.openStreams;
	}

	/** Calls in progress on both lanes. */
	get openCalls(): number {
		return this.#pipeline.openCalls;
	}

	/** Accepted connections of any protocol. */
	get openConnections(): number {
		return this.#sockets.size;
	}

	/** Takes connections. Port 0 lets the system choose. Rejects where the address cannot be used. */
	async listen(host: string, port: number): Promise<AddressInfo> {
		this.#tls?.start();
		this.#http1.start();
		return new Promise((resolve, reject) => {
			this.#port.once("error", reject);
			this.#port.listen({ host, port, backlog: 1024 }, () => {
				this.#port.off("error", reject);
				this.#port.on("error", (error) => this.#options.logger.error({ err: error }, "the port failed"));
				resolve(this.#port.address() as AddressInfo);
			});
		});
	}

	/** Reads the TLS files again. False where there are none, or they cannot be used. */
	reloadTls(): boolean {
		return this.#tls?.reload() ?? false;
	}

	/**
	 * Stops gracefully: no new connection, no new call; handlers are told through their signal and may end their streams
	 * with a last frame; what is still open after `deadlineMs` is destroyed. Idempotent.
	 */
	drain(deadlineMs: number): Promise<void> {
		this.#stopped ??= this.#drain(deadlineMs);
		return this.#stopped;
	}

	[Symbol.asyncDispose](): Promise<void> {
		return this.drain(0);
	}

	async #drain(deadlineMs: number): Promise<void> {
		const { clock } = this.#options;
		const closed = new Promise<void>((resolve) => {
			if (this.#port.listening) this.#port.close(() => resolve());
			else resolve();
		});
		this.#pipeline.drain();
		this.#sessions.drain();
		this.#http1.drain();
		const emptied = new Promise<void>((resolve) => {
			if (this.#sockets.size === 0) resolve();
			this.#emptied = resolve;
		});
		if (deadlineMs > 0) {
			const deadline = Promise.withResolvers<void>();
			const timer = clock.after(deadlineMs, deadline.resolve);
			await Promise.race([emptied, deadline.promise]);
			timer.cancel();
		}
		this.#sessions.destroy();
		this.#http1.destroy();
		for (const socket of this.#sockets) socket.destroy();
		this.#tls?.stop();
		await closed;
		await emptied;
		this.#pipeline.stop();
	}

	#accept(socket: Socket): void {
		this.#sockets.add(socket);
		socket.on("error", () => socket.destroy());
		socket.on("close", () => {
			this.#sockets.delete(socket);
			if (this.#sockets.size === 0) this.#emptied?.();
		});
		sniff(socket, this.#options.clock, this.#limits.firstByteMs, (protocol) => this.#route(protocol, socket));
	}

	#route(protocol: WireProtocol, socket: Socket): void {
		if (protocol === "tls") {
			if (this.#tls) this.#tls.accept(socket);
			else socket.destroy();
		} else if (this.#tls) {
			this.#options.logger.debug({ peer: socket.remoteAddress }, "cleartext was refused");
			socket.destroy();
		} else if (protocol === "http2") {
			this.#sessions.accept(socket);
		} else {
			this.#http1.accept(socket);
		}
	}

	#secured(socket: TLSSocket): void {
		socket.on("error", () => socket.destroy());
		if (socket.alpnProtocol === "h2") this.#sessions.accept(socket);
		else this.#http1.accept(socket);
	}

	#answer(request: HttpRequest, response: HttpResponse, peer: PeerInfo): void {
		try {
			if (this.#options.hosts?.(request.headers) === false) {
				response.statusCode = 403;
				response.end();
				request.resume();
				return;
			}
			if (this.#options.httpRoutes?.(request, response, peer)) return;
			if (this.#cors.handle(request, response)) return;
		} catch (error) {
			this.#options.logger.error({ err: error, path: request.url?.slice(0, 200) }, "an HTTP route failed");
			response.destroy();
			return;
		}
		void this.#connectLane.answer(request, response, peer);
	}
}

/** Builds the server; it does nothing until `listen`. */
export function createRpcServer(options: RpcServerOptions): RpcServer {
	return new RpcServer(options);
}

function peerOf(socket: Socket | undefined): PeerInfo {
	const address = `${socket?.remoteAddress ?? "unknown"}:${socket?.remotePort ?? 0}`;
	return { address, encrypted: socket !== undefined && "encrypted" in socket && socket.encrypted === true };
}
