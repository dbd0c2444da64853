import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";

export interface LocalHubOptions {
	/** Of the `plugin-hub` command, such as `["--state", "memory", "--data", folder]`. */
	readonly flags: readonly string[];
	/** Added to this process's environment. It listens on a free port of the loopback address unless it is told otherwise. */
	readonly env?: Readonly<Record<string, string>>;
	/** The program and its first arguments. Default: this project's sources, run by this Node. */
	readonly command?: readonly [string, ...string[]];
}

/** How a hub ended: by itself with a code, or by a signal. */
export interface HubExit {
	readonly code: number | null;
	readonly signal: NodeJS.Signals | null;
}

/** A hub in a process of its own on this machine. */
export interface LocalHub extends AsyncDisposable {
	/** Of its process. */
	readonly pid: number;
	readonly url: string;
	readonly operatorToken: string;
	/** From the start of the process to its ready line, in milliseconds. */
	readonly readyMs: number;
	/** The end of its log: JSON lines, at most 64 KiB. */
	log(): string;
	/** Asks it to stop and waits until it has. It is killed where that takes longer than 15 s. */
	stop(): Promise<HubExit>;
	/** Ends it as a crash would and waits until it is gone. */
	kill(): Promise<HubExit>;
}

const MAIN = join(import.meta.dirname, "..", "src", "main.ts");
const LOG_CHARACTERS = 64 * 1024;
const STOP_MS = 15_000;

/** Starts a hub and waits until it is ready. Rejects with what it said where it ends before that. */
export async function startLocalHub(options: LocalHubOptions): Promise<LocalHub> {
	const { flags, env, command = [process.execPath, MAIN] } = options;
	const [program, ...first] = command;
	const startedAt = performance.now();
	const child = spawn(program, [...first, ...flags], {
		env: { ...process.env, QIRVO_HUB_LISTEN: "127.0.0.1:0", ...env },
		stdio: ["ignore", "ignore", "pipe"],
	});
	const ready = Promise.withResolvers<{ url: string; operatorToken: string; readyMs: number }>();
	const exited = new Promise<HubExit>((resolve) => {
		child.on("exit", (code, signal) => resolve({ code, signal }));
		child.on("error", ready.reject);
	});
	let log = "";
	createInterface({ input: child.stderr }).on("line", (line) => {
		log = `${log}${line}\n`.slice(-LOG_CHARACTERS);
		const facts = readyFacts(line);
		if (!facts) return;
		const operatorToken = readFileSync(facts.operatorToken, "utf8").trim();
		ready.resolve({ url: facts.url, operatorToken, readyMs: performance.now() - startedAt });
	});
	child.on("close", (code) => ready.reject(new Error(`the hub ended with code ${code} before it was ready: ${log}`)));
	const { url, operatorToken, readyMs } = await ready.promise;
	const stop = async () => {
		child.kill("SIGTERM");
		const tooLong = setTimeout(() => child.kill("SIGKILL"), STOP_MS);
		const exit = await exited;
		clearTimeout(tooLong);
		return exit;
	};
	return {
		url,
		operatorToken,
		pid: child.pid ?? 0,
		readyMs,
		log: () => log,
		stop,
		async kill() {
			child.kill("SIGKILL");
			return await exited;
		},
		async [Symbol.asyncDispose]() {
			await stop();
		},
	};
}

function readyFacts(line: string): { url: string; operatorToken: string } | undefined {
	if (!line.startsWith("{")) return undefined;
	const { msg, url, operatorToken } = JSON.parse(line) as { msg?: string; url?: string; operatorToken?: string };
	return msg === "ready" && url !== undefined && operatorToken !== undefined ? { url, operatorToken } : undefined;
}
