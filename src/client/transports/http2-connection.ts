import { type ClientHttp2Session, type ClientHttp2Stream, connect, type OutgoingHttpHeaders } from "node:http2";
import type { SecureContextOptions } from "node:tls";

/** What a stream may send before it is told to go on. The protocol's default of 64 KiB halves the throughput of streams. */
export const STREAM_WINDOW_BYTES = 4 * 1024 * 1024;
const SESSION_WINDOW_BYTES = 16 * 1024 * 1024;
/** How often the peer is asked whether it is there. */
export const KEEPALIVE_MS = 20_000;
/** How long it may take to answer. */
export const KEEPALIVE_TIMEOUT_MS = 10_000;

/** Trusted certificates and the client's own. */
export type ClientTlsOptions = Pick<SecureContextOptions, "ca" | "cert" | "key" | "passphrase"> & {
	readonly servername?: string;
	readonly rejectUnauthorized?: boolean;
};

/**
 * One HTTP/2 session at a time, opened by the first request and again by the first after a loss. A session that the peer
 * winds up serves the streams that it has; the next request opens another.
 */
export class Http2Connection {
	readonly #url: string;
	readonly #tls: ClientTlsOptions | undefined;
	readonly #open = new Set<ClientHttp2Session>();
	#session: ClientHttp2Session | undefined;

	constructor(url: string, tls?: ClientTlsOptions) {
		this.#url = url;
		this.#tls = tls;
	}

	/** Opens a stream. A connection that cannot be made shows as an error of the stream. */
	request(headers: OutgoingHttpHeaders): ClientHttp2Stream {
		let session = this.#session;
		if (session === undefined || session.closed || session.destroyed) session = this.#connect();
		return session.request(headers, { endStream: false });
	}

	/** Ends every stream. A later request opens a new session. */
	close(): void {
		this.#session = undefined;
		for (const session of this.#open) session.destroy();
	}

	#connect(): ClientHttp2Session {
		const settings = { initialWindowSize: STREAM_WINDOW_BYTES, enablePush: false };
		const session = connect(this.#url, { ...this.#tls, settings });
		this.#session = session;
		this.#open.add(session);
		const retire = () => {
			if (this.#session === session) this.#session = undefined;
		};
		let pong: NodeJS.Timeout | undefined;
		const ping = setInterval(() => {
			pong ??= setTimeout(() => session.destroy(new Error("the peer does not answer pings")), KEEPALIVE_TIMEOUT_MS);
			session.ping(() => {
				clearTimeout(pong);
				pong = undefined;
			});
		}, KEEPALIVE_MS);
		ping.unref();
		session.once("connect", () => session.setLocalWindowSize(SESSION_WINDOW_BYTES));
		session.on("goaway", retire);
		// The streams report it, each to whoever waits for it.
		session.on("error", retire);
		session.once("close", () => {
			clearInterval(ping);
			clearTimeout(pong);
			this.#open.delete(session);
			retire();
		});
		return session;
	}
}
