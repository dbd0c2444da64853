import { randomIds, systemClock } from "../../src/clock/system-clock.ts";
import { HubError } from "../../src/hub-error.ts";
import { ANONYMOUS, type Authenticator } from "../../src/security/caller.ts";
import { createRpcServer, type RpcServer, type RpcServerOptions } from "../../src/server/http2-server.ts";
import { silentLogger } from "../../src/telemetry/logger.ts";
import { Metrics } from "../../src/telemetry/metrics.ts";
import { ECHO_POLICIES, type EchoTrace, echoService } from "./echo-service.ts";

/** Knows `Bearer plugin-a`, and `Bearer slow-a` after a moment. */
export const echoAuthenticator: Authenticator = {
	authenticate(authorization) {
		if (authorization === undefined) return ANONYMOUS;
		const caller = { kind: "plugin", id: "a", credentialId: "c", expiresAt: undefined } as const;
		if (authorization === "Bearer plugin-a") return caller;
		if (authorization === "Bearer slow-a") return new Promise((resolve) => setImmediate(() => resolve(caller)));
		if (authorization === "Bearer slow-bad") {
			return new Promise((_, reject) => setImmediate(() => reject(new HubError("CREDENTIAL_REVOKED", "revoked"))));
		}
		throw new HubError("CREDENTIAL_INVALID", "the credential is not valid");
	},
};

export interface EchoServer extends AsyncDisposable {
	readonly server: RpcServer;
	readonly port: number;
	readonly url: string;
	readonly trace: EchoTrace;
	readonly metrics: Metrics;
}

/** A real server on a free port of the loopback interface. */
export async function startEcho(options: Partial<RpcServerOptions> = {}): Promise<EchoServer> {
	const trace: EchoTrace = { aborted: [], waiting: 0, released: 0, taken: 0 };
	const metrics = new Metrics();
	const server = createRpcServer({
		services: [echoService(trace)],
		policies: ECHO_POLICIES,
		authenticator: echoAuthenticator,
		logger: silentLogger,
		metrics,
		clock: systemClock,
		ids: randomIds,
		...options,
		// Every RPC of the echo service is open to anyone.
		limits: { publicStreamsPerConnection: 100_000, publicStreams: 100_000, ...options.limits },
	});
	const { port } = await server.listen("127.0.0.1", 0);
	const scheme = options.tls ? "https" : "http";
	return {
		server,
		port,
		url: `${scheme}://127.0.0.1:${port}`,
		trace,
		metrics,
		[Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
	};
}
