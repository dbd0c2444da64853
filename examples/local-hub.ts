import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** A hub in a process of its own on this machine. */
export interface LocalHub {
	readonly url: string;
	readonly directory: string;
	readonly operatorToken: string;
	/** Asks it to stop and waits until it has. */
	stop(): Promise<void>;
}

/** Starts a hub on a free port of the loopback address and waits until it is ready. */
export async function startLocalHub(options: { state: "memory" | "embedded"; directory: string }): Promise<LocalHub> {
	const { state, directory } = options;
	const main = join(import.meta.dirname, "..", "src", "main.ts");
	const flags = ["--listen", "127.0.0.1:0", "--state", state, "--data", directory];
	const child = spawn(process.execPath, [main, ...flags], { stdio: ["ignore", "ignore", "pipe"] });
	const exited = once(child, "exit");
	let said = "";
	for await (const line of createInterface({ input: child.stderr })) {
		said += `${line}\n`;
		if (!line.startsWith("{")) continue;
		const { msg, url } = JSON.parse(line) as { msg?: string; url?: string };
		if (msg !== "ready" || url === undefined) continue;
		child.stderr.resume();
		return {
			url,
			directory,
			operatorToken: readFileSync(join(directory, "operator.token"), "utf8").trim(),
			async stop() {
				child.kill("SIGTERM");
				await exited;
			},
		};
	}
	throw new Error(`the hub did not start: ${said}`);
}
