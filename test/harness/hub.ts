import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Client, type ConnectError, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { describe } from "vitest";
import { ErrorInfoSchema } from "#gen/google/rpc/error_details_pb.js";
import { EventService } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { HubService } from "#gen/qirvo/hub/v1/hub_service_pb.js";
import { MessagingService } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { PluginService } from "#gen/qirvo/hub/v1/plugin_service_pb.js";
import { type PermissionsSchema, SecurityAdminService } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import { StoreService } from "#gen/qirvo/hub/v1/store_service_pb.js";
import { randomIds, systemClock } from "../../src/clock/system-clock.ts";
import { type AuditRecord, decodeAuditRecord } from "../../src/security/audit-record.ts";
import { DEFAULT_OPTIONS, type HubOptions } from "../../src/server/hub-options.ts";
import { openState } from "../../src/server/open-state.ts";
import { type RunningHub, type StartHubOptions, startHub } from "../../src/server/start-hub.ts";
import type { StateBackend } from "../../src/state/state-backend.ts";
import { silentLogger } from "../../src/telemetry/logger.ts";

/** Everything that a plugin without limits may do; tests that are about limits grant less. */
export const ALL_GRANTS: MessageInitShape<typeof PermissionsSchema> = {
	sendTo: ["*"],
	receiveFrom: ["*"],
	emit: ["**"],
	subscribe: ["**"],
	replay: ["**"],
	stores: [{ store: "*", read: true, write: true, create: true }],
};

/** The generated clients of every service, with one credential and one connection. */
export interface Clients extends Disposable {
	readonly token: string;
	readonly transport: Transport;
	readonly hub: Client<typeof HubService>;
	readonly plugins: Client<typeof PluginService>;
	readonly events: Client<typeof EventService>;
	readonly messaging: Client<typeof MessagingService>;
	readonly stores: Client<typeof StoreService>;
	readonly admin: Client<typeof SecurityAdminService>;
}

export interface HubVariant {
	readonly name: string;
	readonly options: Partial<HubOptions>;
}

/** Each lane on each backend. */
export const HUB_VARIANTS: readonly HubVariant[] = (["memory", "embedded"] as const).flatMap((state) =>
	([true, false] as const).map((fastLane) => ({
		name: `${fastLane ? "fast" : "connect"} lane, ${state}`,
		options: { state, fastLane },
	})),
);

/** Runs the tests of `body` against a hub of each variant. */
export function describeHubs(name: string, body: (start: (extra?: TestHubOptions) => Promise<TestHub>) => void): void {
	describe.each(HUB_VARIANTS)(`${name} ($name)`, (variant) => {
		body((extra = {}) => TestHub.start({ ...extra, options: { ...variant.options, ...extra.options } }));
	});
}

export type TestHubOptions = Partial<StartHubOptions> & {
	readonly directory?: string;
	/** Whether the test reads the audit logs. */
	readonly readsAudit?: boolean;
};

/**
 * A hub in this process on a free port, with a folder of its own unless it is given one. Disposal ends its clients and
 * fails where anything is still open in the hub after that.
 */
export class TestHub implements AsyncDisposable {
	readonly running: RunningHub;
	/** What it was started with beside the defaults. */
	readonly options: Partial<HubOptions>;
	readonly directory: string;
	readonly operator: Clients;
	readonly #owned: Clients[] = [];
	readonly #ownsDirectory: boolean;
	readonly #state: StateBackend | undefined;

	private constructor(running: RunningHub, used: Partial<HubOptions>, directory: string, extra: TestHubOptions) {
		this.running = running;
		this.options = used;
		this.directory = directory;
		this.#ownsDirectory = extra.directory === undefined;
		this.#state = extra.state;
		this.operator = this.connect(readFileSync(running.operatorTokenFile, "utf8").trim());
	}

	static async start(extra: TestHubOptions = {}): Promise<TestHub> {
		const { directory = mkdtempSync(join(tmpdir(), "hub-test-")), options, readsAudit = false, ...rest } = extra;
		const used: Partial<HubOptions> = {
			listen: { host: "127.0.0.1", port: 0 },
			state: "memory",
			dataDirectory: directory,
			drainMs: 2000,
			...options,
		};
		if (readsAudit) {
			const { clock = systemClock, ids = randomIds } = extra;
			rest.state ??= await openState({ ...DEFAULT_OPTIONS, ...used }, clock, ids, silentLogger);
		}
		const running = await startHub({ logger: silentLogger, version: "0.0.0-test", ...rest, options: used });
		return new TestHub(running, used, directory, { ...extra, ...rest });
	}

	get url(): string {
		return this.running.url;
	}

	/** Clients with this token, or with none. */
	connect(token = ""): Clients {
		const clients = connectClients(this.url, token);
		this.#owned.push(clients);
		return clients;
	}

	/** A registered plugin with these grants; its clients have a credential of its own. */
	async enrol(pluginId: string, grants: MessageInitShape<typeof PermissionsSchema> = ALL_GRANTS): Promise<Clients> {
		const { token } = await this.operator.admin.issueCredential({ principal: { case: "pluginId", value: pluginId } });
		await this.operator.admin.setPermissions({ pluginId, permissions: grants });
		const clients = this.connect(token);
		await clients.plugins.register({ manifestJson: manifestOf(pluginId) });
		return clients;
	}

	/** What an audit log holds so far, oldest first, of a hub that was started with `readsAudit`. */
	async recorded(log: "changes" | "denials"): Promise<readonly AuditRecord[]> {
		if (this.#state === undefined) throw new Error("the hub was started without `readsAudit`");
		const page = await (await this.#state.log(`audit-${log}`)).read({
			from: { sequence: 1 },
			maxRecords: 1000,
			maxBytes: 1 << 24,
		});
		return page.records.map(({ bytes }) => decodeAuditRecord(bytes));
	}

	async [Symbol.asyncDispose](): Promise<void> {
		for (const clients of this.#owned) clients[Symbol.dispose]();
		try {
			await until(() => Object.values(this.running.open()).every((count) => count === 0), {
				problem: () => `left open in the hub: ${JSON.stringify(this.running.open())}`,
			});
		} finally {
			await this.running.stop();
			if (this.#ownsDirectory) rmSync(this.directory, { recursive: true, force: true });
		}
	}
}

/** The generated clients of the hub at `url` with this token, or with none. `ca` is whom to trust, as PEM. */
export function connectClients(url: string, token = "", ca?: string): Clients {
	const sessions = new Http2SessionManager(url, undefined, ca === undefined ? undefined : { ca });
	const authorize: Interceptor = (next) => (request) => {
		if (token !== "") request.header.set("authorization", `Bearer ${token}`);
		return next(request);
	};
	const transport = createGrpcTransport({ baseUrl: url, sessionManager: sessions, interceptors: [authorize] });
	return {
		token,
		transport,
		hub: createClient(HubService, transport),
		plugins: createClient(PluginService, transport),
		events: createClient(EventService, transport),
		messaging: createClient(MessagingService, transport),
		stores: createClient(StoreService, transport),
		admin: createClient(SecurityAdminService, transport),
		[Symbol.dispose]: () => sessions.abort(),
	};
}

/** A manifest of version 2 with this id. */
export function manifestOf(pluginId: string): string {
	return JSON.stringify({ manifest_version: 2, id: pluginId, name: pluginId, version: "1.0.0", type: "service" });
}

/** Waits until the condition holds; rejects with the problem where it does not within 5 seconds. */
export async function until(
	holds: () => boolean | Promise<boolean>,
	options: { readonly problem?: () => string; readonly ms?: number } = {},
): Promise<void> {
	const deadline = performance.now() + (options.ms ?? 5000);
	while (!(await holds())) {
		if (performance.now() > deadline) throw new Error(options.problem?.() ?? "the condition did not come to hold");
		await new Promise((resolve) => setTimeout(resolve, 5));
	}
}

/** The reason that an error of the hub carries. */
export function reasonOf(error: ConnectError): string | undefined {
	return error.findDetails(ErrorInfoSchema)[0]?.reason;
}
