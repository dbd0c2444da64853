import type { AddressInfo } from "node:net";
import type { Clock, IdSource } from "../clock/clock.ts";
import { randomIds, systemClock } from "../clock/system-clock.ts";
import { FirstAnswers } from "../idempotency/first-answers.ts";
import type { MessageContent } from "../messaging/message-content.ts";
import { type Middleware, middlewareInspector } from "../messaging/middleware.ts";
import { MiddlewareChain } from "../messaging/middleware-chain.ts";
import type { MountedService } from "../rpc/call.ts";
import { createEventService } from "../rpc/event-service.ts";
import { createHubService } from "../rpc/hub-service.ts";
import { createMessagingService } from "../rpc/messaging-service.ts";
import { CLOSED_POLICIES, METHOD_POLICIES } from "../rpc/method-policy.ts";
import { createPluginService } from "../rpc/plugin-service.ts";
import { createSecurityAdminService } from "../rpc/security-admin-service.ts";
import { StateBackups } from "../rpc/state-backups.ts";
import { createStoreService } from "../rpc/store-service.ts";
import { bindProblem, isLoopback } from "../security/bind-rules.ts";
import type { Guard } from "../security/guard.ts";
import { ensureOperatorToken } from "../security/operator-token.ts";
import { type StateBackend, StateOpenError } from "../state/state-backend.ts";
import type { EntryFunction } from "../stores/validator-compiler.ts";
import type { Logger } from "../telemetry/logger.ts";
import { Metrics } from "../telemetry/metrics.ts";
import { HealthStatus, healthService } from "./health.ts";
import { loopbackHosts } from "./host-rule.ts";
import { createHttpRoutes } from "./http-routes.ts";
import { createRpcServer, type RpcServer } from "./http2-server.ts";
import { hubFacts } from "./hub-facts.ts";
import { registerHubMetrics } from "./hub-metrics.ts";
import { DEFAULT_OPTIONS, type HubOptions } from "./hub-options.ts";
import { openSecurity, type Security } from "./open-security.ts";
import { openState } from "./open-state.ts";
import { openSubsystems } from "./open-subsystems.ts";
import { Owner } from "./owner.ts";
import { PluginAudience } from "./plugin-audience.ts";
import { PluginStandings } from "./plugin-standings.ts";
import { reflectionServices } from "./reflection.ts";
import { TlsFilesError } from "./tls-listener.ts";

/** Why a hub cannot start, in words for whoever set it up. The message begins with the setting that is at fault. */
export class StartError extends Error {
	override readonly name = "StartError";
}

export interface StartHubOptions {
	/** What differs from the defaults. */
	readonly options?: Partial<HubOptions>;
	readonly logger: Logger;
	readonly version?: string;
	/** For tests: another clock and other ids. */
	readonly clock?: Clock;
	readonly ids?: IdSource;
	/** Looks at messages on their way. */
	readonly middleware?: readonly Middleware[];
	/** Validators that stores may name in their configuration, by those names. */
	readonly storeValidators?: Readonly<Record<string, EntryFunction>>;
	/** An already open state, which the hub then disposes. Default: as the options say. */
	readonly state?: StateBackend;
}

/** A hub that serves. */
export interface RunningHub extends AsyncDisposable {
	readonly host: string;
	readonly port: number;
	/** `http://127.0.0.1:50051`, or `https://` with TLS. */
	readonly url: string;
	/** Where the operator's token is. */
	readonly operatorTokenFile: string;
	/** Settles only if the storage can no longer keep its promises; the process must then exit at once. */
	readonly failed: Promise<Error>;
	/** What is open now, for leak checks. */
	open(): Readonly<Record<string, number>>;
	/** Reads the TLS files again. */
	reloadTls(): boolean;
	/** Stops gracefully. Idempotent. */
	stop(): Promise<void>;
}

/** Wires a hub and starts it. Rejects with `StartError`. */
export async function startHub(start: StartHubOptions): Promise<RunningHub> {
	const options: HubOptions = { ...DEFAULT_OPTIONS, ...start.options };
	const { logger, clock = systemClock, ids = randomIds, version = "0.0.0" } = start;
	const { host } = options.listen;
	const problem = bindProblem({ host, tls: options.tls !== undefined, dev: options.dev });
	if (problem) throw new StartError(`${problem.setting}: ${problem.problem}`);

	await using owner = new Owner();
	const state = owner.use(start.state ?? (await openOrExplain(options, clock, ids, logger)));
	const metrics = new Metrics();
	const answers = owner.use(new FirstAnswers({ kv: state.kv, clock, ids }));
	await answers.start();
	const security = await openSecurity({ state, clock, ids, answers, owner });
	const { authenticator, audit, guard, resumeTokens, openStreams: streams } = security;
	const { storeValidators = {} } = start;
	const subsystems = await openSubsystems({ state, clock, ids, logger, options, answers, storeValidators, owner });
	const { registry, bus, router, routes, topics, fanOut, stores, leases } = subsystems;
	const middleware = openMiddleware(start, guard, clock, ids, owner);
	const audience = new PluginAudience(registry.index, security.policy);
	const operatorTokenFile = await tokenFileOrExplain(options, security, clock, ids);

	const backups = new StateBackups({ state, audit, streams, clock, ids, hubVersion: version });
	const services: MountedService[] = [
		createHubService({
			facts: hubFacts({ version, state, bus, options, startTime: clock.now() }),
			bus: state.bus,
			clock,
			backups,
		}),
		createPluginService({
			registry,
			audit,
			streams,
			clock,
			ids,
			...(options.dev ? { devCredentials: security.devCredentials } : {}),
		}),
		createEventService({ bus, guard, streams, resumeTokens, audit, clock, ids }),
		createMessagingService({
			router,
			routes,
			middleware,
			topics,
			fanOut,
			audience,
			guard,
			streams,
			audit,
			clock,
		}),
		createStoreService({
			stores,
			leases,
			registry,
			plugins: new PluginStandings(registry.index, security.policy),
			onPluginChange: (listener) =>
				registry.index.onTransitions((transitions) => {
					for (const { id } of transitions) listener(id);
				}),
			guard,
			streams,
			audit,
			clock,
			ids,
		}),
		createSecurityAdminService({ credentials: security.credentials, policy: security.policyAdmin }),
	];
	const health = new HealthStatus(services.map((service) => service.descriptor.typeName));
	services.push(healthService(health));
	services.push(...reflectionServices([...services]));
	const server = owner.use(
		createRpcServer({
			services,
			authenticator,
			logger,
			metrics,
			clock,
			ids,
			limits: {
				connections: options.maxConnections,
				keepaliveIntervalMs: options.keepalive.intervalMs,
				keepaliveTimeoutMs: options.keepalive.timeoutMs,
			},
			cors: { origins: options.corsOrigins },
			...(options.tls ? { tls: options.tls } : {}),
			fastLane: options.fastLane,
			...(options.dev ? { hosts: loopbackHosts } : {}),
			policies: options.dev ? METHOD_POLICIES : CLOSED_POLICIES,
			refusals: security.refusedCalls,
			httpRoutes: createHttpRoutes({ health, metrics, protectMetrics: !isLoopback(host), authenticator }),
		}),
	);
	registerHubMetrics(metrics, { ...subsystems, middleware, security, server, clock });
	const address = await listenOrExplain(server, options);
	const running = owner.move();
	health.set(true);
	if (options.dev) logger.warn({ dev: true }, "DEVELOPMENT MODE: anybody on this machine can register a plugin");

	const url = `${options.tls ? "https" : "http"}://${hostInUrl(host)}:${address.port}`;
	logger.info(
		{
			address: `${hostInUrl(host)}:${address.port}`,
			url,
			state: state.name,
			version,
			operatorToken: operatorTokenFile,
		},
		"ready",
	);
	let stopped: Promise<void> | undefined;
	const stop = () => {
		stopped ??= (async () => {
			health.set(false);
			await server.drain(options.drainMs);
			await running[Symbol.asyncDispose]();
		})();
		return stopped;
	};
	return {
		host,
		port: address.port,
		url,
		operatorTokenFile,
		failed: state.failed,
		open: () => ({
			sessions: server.openSessions,
			streams: server.openStreams,
			calls: server.openCalls,
			connections: server.openConnections,
			revocableStreams: streams.size,
			subscriptions: bus.attached,
			consumedSubscriptions: bus.durable.totals.groups,
		}),
		reloadTls: () => server.reloadTls(),
		stop,
		[Symbol.asyncDispose]: stop,
	};
}

function openMiddleware(
	{ middleware = [], logger }: StartHubOptions,
	guard: Guard,
	clock: Clock,
	ids: IdSource,
	owner: Owner,
): MiddlewareChain {
	const checkContent = (content: MessageContent) => guard.contentProblem(content);
	const chain = owner.use(new MiddlewareChain({ clock, ids, checkContent }));
	const onFault = (what: string, error: unknown) => logger.error({ err: error, what }, "a middleware failed");
	for (const one of middleware) {
		try {
			chain.add(middlewareInspector(one, onFault));
		} catch (error) {
			throw new StartError(`middleware: ${error instanceof Error ? error.message : error}`, { cause: error });
		}
	}
	return chain;
}

async function openOrExplain(options: HubOptions, clock: Clock, ids: IdSource, logger: Logger): Promise<StateBackend> {
	try {
		return await openState(options, clock, ids, logger);
	} catch (error) {
		if (error instanceof StateOpenError) throw new StartError(`data: ${error.message}`, { cause: error });
		throw error;
	}
}

async function tokenFileOrExplain(
	{ dataDirectory: directory, newOperatorToken: newToken }: HubOptions,
	{ credentials, tokens, policy }: Security,
	clock: Clock,
	ids: IdSource,
): Promise<string> {
	try {
		return await ensureOperatorToken({ directory, newToken, credentials, tokens, policy, clock, ids });
	} catch (error) {
		if (!(error instanceof Error && "code" in error)) throw error;
		throw new StartError(`data: the operator token cannot be kept in ${directory}: ${error.message}`, { cause: error });
	}
}

async function listenOrExplain(server: RpcServer, options: HubOptions): Promise<AddressInfo> {
	const { host, port } = options.listen;
	try {
		return await server.listen(host, port);
	} catch (error) {
		if (error instanceof TlsFilesError) throw new StartError(error.message, { cause: error });
		const code = error instanceof Error && "code" in error ? error.code : undefined;
		const where = `${hostInUrl(host)}:${port}`;
		if (code === "EADDRINUSE") throw new StartError(`listen: ${where} is in use by another process`, { cause: error });
		if (code === "EACCES") throw new StartError(`listen: ${where} needs rights that this user lacks`, { cause: error });
		if (code === "EADDRNOTAVAIL" || code === "ENOTFOUND") {
			throw new StartError(`listen: ${where} is not an address of this machine`, { cause: error });
		}
		throw error;
	}
}

function hostInUrl(host: string): string {
	return host.includes(":") ? `[${host}]` : host;
}
