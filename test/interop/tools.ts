import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";

export const ROOT = resolve(import.meta.dirname, "../..");

/** Where `.ci/install-interop` puts what it installs. */
const INSTALLED = join(ROOT, "node_modules", ".cache", "interop");

/**
 * The path of a program: installed for these tests, or on PATH. Throws the name of what is missing and how to get it: a
 * test that cannot run here fails and says why.
 */
export function tool(name: string): string {
	const installed = [join(INSTALLED, "bin", name), join(INSTALLED, "python", "bin", name)].find((path) =>
		existsSync(path),
	);
	if (installed) return installed;
	const found = spawnSync("which", [name], { encoding: "utf8" }).stdout.trim();
	if (found !== "") return found;
	throw new Error(`${name} is missing; run .ci/install-interop`);
}

export interface RunOptions {
	readonly cwd?: string;
	readonly env?: Readonly<Record<string, string>>;
	/** What the program reads. */
	readonly input?: string;
	/** Exit codes that count as success. Default: 0. */
	readonly codes?: readonly number[];
}

/** Runs a program to its end, within 150 s, and resolves with what it printed; rejects with all of it where it fails. */
export async function runAsync(program: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
	const { cwd = ROOT, env, input = "", codes = [0] } = options;
	const child = spawn(program, args, { cwd, env: { ...process.env, ...env }, timeout: 150_000 });
	let stdout = "";
	let stderr = "";
	child.stdout.on("data", (chunk) => {
		stdout += chunk;
	});
	child.stderr.on("data", (chunk) => {
		stderr += chunk;
	});
	child.stdin.on("error", () => {});
	child.stdin.end(input);
	const code = await new Promise<number | null>((resolve, reject) => {
		child.on("error", reject);
		child.on("close", resolve);
	});
	if (code === null || !codes.includes(code))
		throw new Error(`${program} ${args.join(" ")}: ${code}\n${stdout}\n${stderr}`);
	return `${stdout}${stderr}`;
}
