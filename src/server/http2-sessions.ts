import {
	constants,
	createServer,
	type Http2Server,
	type IncomingHttpHeaders,
	type ServerHttp2Session,
	type ServerHttp2Stream,
} from "node:http2";
import type { Duplex } from "node:stream";
import type { Clock } from "../clock/clock.ts";
import type { PeerInfo } from "../security/caller.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { ServerLimits } from "./server-limits.ts";
import { SessionGuard } from "./session-guard.ts";

/** Takes a stream. `rawHeaders` is what Node's request objects are made from. */
export type StreamListener = (
	stream: ServerHttp2Stream,
	headers: IncomingHttpHeaders,
	flags: number,
	rawHeaders: string[],
	peer: PeerInfo,
) => void;

interface Session {
	readonly guard: SessionGuard;
	readonly peer: PeerInfo;
}

/** The HTTP/2 half of the port: hardened sessions on connections that somebody else accepted. */
export class Http2Sessions {
	readonly #server: Http2Server;
	readonly #clock: Clock;
	readonly #limits: ServerLimits;
	readonly #sessions = new Map<ServerHttp2Session, Session>();
	#openStreams = 0;
	#draining = false;

	constructor(clock: Clock, limits: ServerLimits, logger: Logger, onStream: StreamListener) {
		this.#clock = clock;
		this.#limits = limits;
		this.#server = createServer({
			maxSettings: limits.settings,
			maxSessionMemory: limits.sessionMemoryMegabytes,
			maxHeaderListPairs: limits.headerPairs,
			maxSessionInvalidFrames: limits.invalidFrames,
			maxSessionRejectedStreams: limits.rejectedStreams,
			streamResetBurst: limits.streamResetBurst,
			streamResetRate: limits.streamResetPerSecond,
			unknownProtocolTimeout: limits.handshakeMs,
			settings: {
				maxConcurrentStreams: limits.concurrentStreams,
				maxHeaderListSize: limits.headerBytes,
				initialWindowSize: limits.streamWindowBytes,
				enablePush: false,
			},
		});
		this.#server.on("session", (session) => this.#opened(session));
		this.#server.on("sessionError", (error) => logger.debug({ err: error }, "an HTTP/2 session failed"));
		this.#server.on("stream", (stream, headers, flags, rawHeaders) => {
			// First of all: a peer that resets its stream with an error code is an uncaught exception otherwise.
			stream.on("error", ignore);
			const owner = stream.session;
			const session = owner && this.#sessions.get(owner as ServerHttp2Session);
			if (!session) {
				stream.close(constants.NGHTTP2_REFUSED_STREAM);
				return;
			}
			this.#openStreams++;
			stream.on("close", this.#streamClosed);
			session.guard.opened(stream);
			try {
				onStream(stream, headers, flags, rawHeaders as unknown as string[], session.peer);
			} catch (error) {
				// Nothing a peer sends may end the process.
				logger.error({ err: error, peer: session.peer.address }, "a stream could not be taken");
				stream.close(constants.NGHTTP2_INTERNAL_ERROR);
			}
		});
	}

	get openSessions(): number {
		return this.#sessions.size;
	}

	get openStreams(): number {
		return this.#openStreams;
	}

	/** Hands over a connection that speaks HTTP/2. */
	accept(socket: Duplex): void {
		this.#server.emit("connection", socket);
	}

	/** GOAWAY to every session: streams in progress go on, new ones are for another connection. */
	drain(): void {
		this.#draining = true;
		for (const session of this.#sessions.keys()) session.close();
	}

	destroy(): void {
		this.#draining = true;
		for (const session of this.#sessions.keys()) session.destroy();
	}

	#opened(session: ServerHttp2Session): void {
		session.on("error", ignore);
		session.setLocalWindowSize(this.#limits.sessionWindowBytes);
		const { socket } = session;
		const guard = new SessionGuard(session, this.#clock, this.#limits);
		const peer = Object.freeze({
			address: `${socket.remoteAddress ?? "unknown"}:${socket.remotePort ?? 0}`,
			encrypted: session.encrypted ?? false,
		});
		this.#sessions.set(session, { guard, peer });
		session.on("close", () => this.#sessions.delete(session));
		guard.start();
		if (this.#draining) session.close();
	}

	readonly #streamClosed = (): void => {
		this.#openStreams--;
	};
}

function ignore(): void {}
