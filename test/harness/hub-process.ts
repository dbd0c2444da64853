import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { PermissionsSchema } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import { type HubExit, type LocalHub, startLocalHub } from "../../examples/local-hub.ts";
import { ALL_GRANTS, type Clients, connectClients, manifestOf } from "./hub.ts";

export const PROJECT = resolve(import.meta.dirname, "../..");
export const HUB_MAIN = join(PROJECT, "src", "main.ts");

/** A new folder that goes with the object. */
export class TestFolder implements Disposable {
	readonly path = mkdtempSync(join(tmpdir(), "hub-process-"));

	[Symbol.dispose](): void {
		rmSync(this.path, { recursive: true, force: true });
	}
}

export interface HubProcessOptions {
	/** More flags; they win over the ones that are given here. */
	readonly flags?: readonly string[];
	readonly env?: Readonly<Record<string, string>>;
	/** Whom to trust, as PEM, where the hub has TLS. */
	readonly ca?: string;
}

/** A hub in a child process, and clients of it. Disposal ends the clients and stops the hub. */
export class HubProcess implements AsyncDisposable {
	readonly local: LocalHub;
	readonly operator: Clients;
	readonly #ca: string | undefined;
	readonly #owned: Clients[] = [];

	private constructor(local: LocalHub, ca?: string) {
		this.local = local;
		this.#ca = ca;
		this.operator = this.connect(local.operatorToken);
	}

	static async start(
		state: "memory" | "embedded",
		directory: string,
		options: HubProcessOptions = {},
	): Promise<HubProcess> {
		const { flags = [], env, ca } = options;
		const local = await startLocalHub({ flags: ["--state", state, "--data", directory, ...flags], env });
		return new HubProcess(local, ca);
	}

	get url(): string {
		return this.local.url;
	}

	/** Clients with this token, or with none. */
	connect(token = ""): Clients {
		const clients = connectClients(this.url, token, this.#ca);
		this.#owned.push(clients);
		return clients;
	}

	/** A registered plugin with these grants; its clients have a credential of its own. */
	async enrol(pluginId: string, grants: MessageInitShape<typeof PermissionsSchema> = ALL_GRANTS): Promise<Clients> {
		const { token } = await this.operator.admin.issueCredential({ principal: { case: "pluginId", value: pluginId } });
		await this.operator.admin.setPermissions({ pluginId, permissions: grants });
		const clients = this.connect(token);
		await clients.plugins.register({ manifestJson: manifestOf(pluginId), withoutInstance: true });
		return clients;
	}

	/** Ends it as a crash would. */
	async kill(): Promise<HubExit> {
		const exit = await this.local.kill();
		this.#disconnect();
		return exit;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#disconnect();
		await this.local.stop();
	}

	#disconnect(): void {
		for (const clients of this.#owned.splice(0)) clients[Symbol.dispose]();
	}
}

/** How a program ended, and what it printed. */
export interface ProgramResult extends HubExit {
	readonly stdout: string;
	readonly stderr: string;
}

export interface ProgramOptions {
	readonly env?: Readonly<Record<string, string>>;
	/** Default: the project's folder. */
	readonly cwd?: string;
	/** When it is ended. Default: 15 s. */
	readonly timeoutMs?: number;
}

/** Runs a program to its end. */
export async function runProgram(
	program: string,
	args: readonly string[],
	options: ProgramOptions = {},
): Promise<ProgramResult> {
	const { env, cwd = PROJECT, timeoutMs = 15_000 } = options;
	const child = spawn(program, args, {
		cwd,
		env: { ...process.env, ...env },
		stdio: ["ignore", "pipe", "pipe"],
		timeout: timeoutMs,
	});
	const printed = { stdout: "", stderr: "" };
	for (const stream of ["stdout", "stderr"] as const) {
		child[stream].setEncoding("utf8").on("data", (chunk: string) => {
			printed[stream] += chunk;
		});
	}
	return await new Promise((resolve, reject) => {
		child.on("error", reject);
		child.on("close", (code, signal) => resolve({ code, signal, ...printed }));
	});
}

/** Runs this Node to its end. */
export function runNode(args: readonly string[], options: ProgramOptions = {}): Promise<ProgramResult> {
	return runProgram(process.execPath, args, options);
}

/** Runs the `plugin-hub` command to its end; for a hub that does not start. */
export function runHub(flags: readonly string[], options: ProgramOptions = {}): Promise<ProgramResult> {
	return runNode([HUB_MAIN, ...flags], options);
}
