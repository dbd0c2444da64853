import type { Authenticator, Caller, PeerInfo } from "../security/caller.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { HealthStatus } from "./health.ts";
import type { HttpResponse, HttpRoutes } from "./http2-server.ts";

export interface HttpRoutesOptions {
	readonly health: HealthStatus;
	readonly metrics: Metrics;
	/** Whether `/metrics` is for operators alone: where the port can be reached from other machines. */
	readonly protectMetrics: boolean;
	readonly authenticator: Authenticator;
}

/** `/livez` (the process runs), `/readyz` (it takes calls) and `/metrics`. GET and HEAD. */
export function createHttpRoutes(options: HttpRoutesOptions): HttpRoutes {
	const { health, metrics } = options;
	return (request, response, peer) => {
		const path = request.url?.split("?", 1)[0];
		if (path !== "/livez" && path !== "/readyz" && path !== "/metrics") return false;
		if (request.method !== "GET" && request.method !== "HEAD") {
			answer(response, 405, "text/plain", "method not allowed\n");
		} else if (path === "/livez") {
			answer(response, 200, "text/plain", "ok\n");
		} else if (path === "/readyz") {
			answer(response, health.ready ? 200 : 503, "text/plain", health.ready ? "ok\n" : "not serving\n");
		} else {
			serveMetrics(response, request.headers.authorization, peer).catch(() => {
				answer(response, 500, "text/plain", "internal error\n");
			});
		}
		return true;
	};

	async function serveMetrics(
		response: HttpResponse,
		authorization: string | undefined,
		peer: PeerInfo,
	): Promise<void> {
		const toOperator = await isOperator(authorization, peer);
		if (options.protectMetrics && !toOperator) {
			answer(response, 401, "text/plain", "needs an operator's token\n");
			return;
		}
		const { contentType, text } = await metrics.expose({ toOperator });
		answer(response, 200, contentType, text);
	}

	async function isOperator(authorization: string | undefined, peer: PeerInfo): Promise<boolean> {
		try {
			const caller: Caller = await options.authenticator.authenticate(authorization, peer);
			return caller.kind === "operator";
		} catch {
			return false;
		}
	}
}

function answer(response: HttpResponse, status: number, contentType: string, body: string): void {
	if (response.headersSent) return;
	response.statusCode = status;
	response.setHeader("content-type", contentType);
	response.setHeader("cache-control", "no-store");
	response.end(body);
}
