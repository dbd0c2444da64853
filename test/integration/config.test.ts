import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ConfigError, helpText, parseConfig } from "../../src/config.ts";
import { DEFAULT_OPTIONS } from "../../src/server/hub-options.ts";

let folder: string;
beforeAll(() => {
	folder = mkdtempSync(join(tmpdir(), "hub-config-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function options(argv: string[], env: Record<string, string> = {}) {
	const parsed = parseConfig(argv, env);
	if (parsed.kind !== "run") throw new Error(parsed.kind);
	return parsed.options;
}

function problem(argv: string[], env: Record<string, string> = {}): ConfigError {
	try {
		parseConfig(argv, env);
	} catch (error) {
		if (error instanceof ConfigError) return error;
		throw error;
	}
	throw new Error("was accepted");
}

describe("settings", () => {
	it("are the defaults where nothing is said", () => {
		expect(options([])).toEqual(DEFAULT_OPTIONS);
	});

	it("are taken from flags", () => {
		const parsed = options(["--listen", "[::1]:0", "--data=/var/hub", "--state", "memory", "--dev", "--no-fast-lane"]);
		expect(parsed).toMatchObject({
			listen: { host: "::1", port: 0 },
			dataDirectory: "/var/hub",
			state: "memory",
			dev: true,
			fastLane: false,
		});
	});

	it("let flags win over the environment, and the environment over the file", () => {
		const file = join(folder, "hub.json");
		writeFileSync(
			file,
			JSON.stringify({ listen: "127.0.0.1:1", "log-level": "warn", "cors-origins": ["https://a.example"] }),
		);
		const parsed = options(["--config", file, "--listen", "127.0.0.1:3"], {
			QIRVO_HUB_LISTEN: "127.0.0.1:2",
			QIRVO_HUB_LOG_LEVEL: "error",
		});
		expect(parsed.listen.port).toBe(3);
		expect(parsed.logLevel).toBe("error");
		expect(parsed.corsOrigins).toEqual(["https://a.example"]);
	});

	it.each([
		[["--listen", "here"], "--listen", "HOST:PORT"],
		[["--listen", "127.0.0.1:70000"], "--listen", "HOST:PORT"],
		[["--listen"], "--listen", "needs a value"],
		[["--state", "postgres"], "--state", "memory, embedded"],
		[["--dev=perhaps"], "--dev", "true or false"],
		[["--lease-seconds", "0"], "--lease-seconds", "from 1 to 3600"],
		[["--cors-origins", "app.example"], "--cors-origins", "https://app.example"],
		[["--tls-cert", "a.pem"], "tls-key", "go together"],
		[["--colour"], "--colour", "not a known flag"],
		[["--no-listen"], "--no-listen", "not a known flag"],
		[["start"], "start", "not a flag"],
	])("name the key that is wrong: %j", (argv, key, text) => {
		const error = problem(argv);
		expect(error.key).toBe(key);
		expect(error.message).toContain(text);
	});

	it("name the variable and the file that are wrong", () => {
		expect(problem([], { QIRVO_HUB_STATE: "disk" }).key).toBe("QIRVO_HUB_STATE");
		expect(problem([], { QIRVO_HUB_COLOUR: "red" }).message).toContain("not a known setting");
		const file = join(folder, "bad.json");
		writeFileSync(file, "{");
		expect(problem(["--config", file]).message).toContain(file);
		writeFileSync(file, JSON.stringify({ state: "disk" }));
		expect(problem(["--config", file]).key).toBe(`${file}: state`);
	});

	it("are all in the help", () => {
		expect(parseConfig(["--help"], {}).kind).toBe("help");
		expect(parseConfig(["--version"], {}).kind).toBe("version");
		for (const flag of [
			"--listen HOST:PORT",
			"--data DIR",
			"--state BACKEND",
			"--dev",
			"--no-fast-lane",
			"--tls-cert FILE",
		]) {
			expect(helpText()).toContain(flag);
		}
	});
});
