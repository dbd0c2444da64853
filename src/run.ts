import { readFileSync } from "node:fs";
import { ConfigError, helpText, parseConfig } from "./config.ts";
import type { RunningHub } from "./server/start-hub.ts";

/**
 * The `plugin-hub` command: runs a hub until it is told to stop. Resolves with the exit code: 0 after an orderly stop, 1
 * where the hub could not start, 2 where a setting is wrong, 3 where the storage failed while running. Or takes, checks or
 * restores a backup: 0 where that was done, 1 where it could not be.
 */
export async function run(argv: readonly string[], env: Readonly<Record<string, string | undefined>>): Promise<number> {
	let parsed: ReturnType<typeof parseConfig>;
	try {
		parsed = parseConfig(argv, env);
	} catch (error) {
		if (!(error instanceof ConfigError)) throw error;
		process.stderr.write(`plugin-hub: ${error.message}\n`);
		return 2;
	}
	if (parsed.kind === "help") {
		process.stdout.write(helpText());
		return 0;
	}
	if (parsed.kind === "version") {
		process.stdout.write(`${hubVersion()}\n`);
		return 0;
	}
	if (parsed.kind !== "run") {
		const { runBackupTask } = await import("./backup-task.ts");
		return await runBackupTask(parsed);
	}
	const stop = Promise.withResolvers<string>();
	// Listened for before the hub starts: whoever sees it ready, or is tired of waiting, may tell it to stop.
	for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => stop.resolve(signal));
	// Loaded only now: a wrong flag or `--help` need not wait for all of it.
	const { StartError, startHub } = await import("./server/start-hub.ts");
	const { createLogger } = await import("./telemetry/logger.ts");
	const logger = createLogger({ level: parsed.options.logLevel });
	let hub: RunningHub;
	try {
		hub = await startHub({ options: parsed.options, logger, version: hubVersion() });
	} catch (error) {
		if (!(error instanceof StartError)) throw error;
		process.stderr.write(`plugin-hub: ${error.message}\n`);
		return 1;
	}
	// The hub's own timers and sockets are not references that keep a process alive on purpose; this one is.
	const alive = setInterval(() => {}, 1 << 30);
	const end = await Promise.race([
		stop.promise.then((signal) => ({ signal })),
		hub.failed.then((error) => ({ error })),
	]);
	clearInterval(alive);
	if ("error" in end) {
		logger.error({ err: end.error }, "the storage failed; what was acknowledged is on disk");
		// Nothing more may be written by this process, so nothing is closed in order.
		process.exit(3);
	}
	logger.info({ signal: end.signal }, "stopping");
	await hub.stop();
	logger.info({}, "stopped");
	return 0;
}

function hubVersion(): string {
	const manifest: unknown = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
	return typeof manifest === "object" && manifest !== null && "version" in manifest
		? String(manifest.version)
		: "0.0.0";
}
