import { type FSWatcher, readFileSync, watch } from "node:fs";
import type { Socket } from "node:net";
import { dirname } from "node:path";
import { createServer, type Server, type TLSSocket } from "node:tls";
import type { Clock, Timer } from "../clock/clock.ts";
import type { Logger } from "../telemetry/logger.ts";

/** Where the hub's certificate comes from. PEM files, read again when they change. */
export interface TlsOptions {
	/** The certificate and whatever chain belongs to it. */
	readonly certFile: string;
	readonly keyFile: string;
}

/** Why the files cannot be used. The message begins with the setting that is at fault. */
export class TlsFilesError extends Error {
	override readonly name = "TlsFilesError";
}

/** Wait this long after a change before the files are read, because a certificate and its key change one after the other. */
const SETTLE_MS = 250;

/**
 * TLS on connections that somebody else accepted. A certificate that is replaced on disk is used from the next
 * handshake on; one that cannot be read or does not fit its key leaves the present one in use and is logged.
 */
export class TlsListener {
	readonly #options: TlsOptions;
	readonly #clock: Clock;
	readonly #logger: Logger;
	readonly #server: Server;
	#watchers: FSWatcher[] = [];
	#settle: Timer | undefined;

	/** Reads nothing yet: `start` does. `accept` gets each connection whose handshake is complete. */
	constructor(
		options: TlsOptions,
		handshakeMs: number,
		clock: Clock,
		logger: Logger,
		accept: (socket: TLSSocket) => void,
	) {
		this.#options = options;
		this.#clock = clock;
		this.#logger = logger;
		this.#server = createServer({
			ALPNProtocols: ["h2", "http/1.1"],
			minVersion: "TLSv1.2",
			handshakeTimeout: handshakeMs,
		});
		this.#server.on("secureConnection", accept);
		this.#server.on("tlsClientError", (error, socket) => {
			logger.debug({ err: error }, "a TLS handshake failed");
			socket.destroy();
		});
	}

	/** Reads the files and watches their folders. Throws `TlsFilesError` where they cannot be used. */
	start(): void {
		this.#use();
		const { certFile, keyFile } = this.#options;
		const folders = new Set([dirname(certFile), dirname(keyFile)]);
		for (const folder of folders) {
			// Folders, not files: certificates are usually replaced by renaming, which a watched file does not survive.
			const watcher = watch(folder, { persistent: false }, () => this.#changed());
			watcher.on("error", (error) => this.#logger.warn({ err: error }, "certificates are no longer watched"));
			this.#watchers.push(watcher);
		}
	}

	/** Hands over a connection whose first byte begins a handshake. */
	accept(socket: Socket): void {
		this.#server.emit("connection", socket);
	}

	/** Reads the files again now. False, and the old certificate stays, where they cannot be used. */
	reload(): boolean {
		try {
			this.#use();
			this.#logger.info({}, "the TLS certificate was read again");
			return true;
		} catch (error) {
			this.#logger.error({ err: error }, "the TLS certificate cannot be used; the previous one stays");
			return false;
		}
	}

	stop(): void {
		this.#settle?.cancel();
		for (const watcher of this.#watchers) watcher.close();
		this.#watchers = [];
	}

	#changed(): void {
		this.#settle?.cancel();
		this.#settle = this.#clock.after(SETTLE_MS, () => this.reload());
	}

	#use(): void {
		const { certFile, keyFile } = this.#options;
		const pair = { cert: readSetting("tls-cert", certFile), key: readSetting("tls-key", keyFile) };
		try {
			this.#server.setSecureContext(pair);
		} catch (cause) {
			throw new TlsFilesError(`tls-cert: ${certFile} and ${keyFile} cannot be used: ${messageOf(cause)}`, { cause });
		}
	}
}

function readSetting(setting: string, file: string): Buffer {
	try {
		return readFileSync(file);
	} catch (cause) {
		throw new TlsFilesError(`${setting}: ${file} cannot be read: ${messageOf(cause)}`, { cause });
	}
}

function messageOf(error: unknown): string {
	return error instanceof Error ? error.message : String(error);
}
