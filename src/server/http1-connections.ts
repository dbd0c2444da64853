import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import type { ServerLimits } from "./server-limits.ts";

/** The HTTP/1.1 half of the port: requests on connections that somebody else accepted. */
export class Http1Connections {
	readonly #server: Server;
	readonly #sockets = new Set<Duplex>();
	#draining = false;

	constructor(limits: ServerLimits, onRequest: (request: IncomingMessage, response: ServerResponse) => void) {
		this.#server = createServer({
			connectionsCheckingInterval: limits.http1CheckMs,
			maxHeaderSize: limits.headerBytes,
			requireHostHeader: true,
		});
		this.#server.headersTimeout = limits.http1HeadersMs;
		this.#server.requestTimeout = limits.http1RequestMs;
		this.#server.keepAliveTimeout = limits.http1IdleMs;
		this.#server.maxRequestsPerSocket = limits.http1Requests;
		this.#server.maxHeadersCount = limits.headerPairs;
		this.#server.on("request", (request, response) => {
			if (this.#draining) response.setHeader("connection", "close");
			response.on("close", () => {
				if (this.#draining) setImmediate(() => this.#server.closeIdleConnections());
			});
			onRequest(request, response);
		});
		this.#server.on("clientError", (_error, socket) => {
			if (socket.writable && !socket.destroyed) socket.end("HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n");
			else socket.destroy();
		});
		this.#server.on("upgrade", (_request, socket) => socket.destroy());
		this.#server.on("connect", (_request, socket) => socket.destroy());
	}

	get openConnections(): number {
		return this.#sockets.size;
	}

	/** The server never listens, but looks after its times only once it believes that it does. */
	start(): void {
		this.#server.emit("listening");
	}

	/** Hands over a connection that speaks HTTP/1.1. */
	accept(socket: Duplex): void {
		this.#sockets.add(socket);
		socket.on("error", () => socket.destroy());
		socket.on("close", () => this.#sockets.delete(socket));
		this.#server.emit("connection", socket);
	}

	/** Connections without a request are closed; the others after the request they are busy with. */
	drain(): void {
		this.#draining = true;
		this.#server.closeIdleConnections();
	}

	/** Ends the checks that `start` began, and every connection. */
	destroy(): void {
		this.#draining = true;
		for (const socket of this.#sockets) socket.destroy();
		this.#server.close(() => {});
	}
}
