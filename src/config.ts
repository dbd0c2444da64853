import { readFileSync } from "node:fs";
import { join } from "node:path";
import { DEFAULT_OPTIONS, type HubOptions } from "./server/hub-options.ts";

/** A setting that cannot be used. `key` is how the user spelled it: a flag, an environment variable or a file's key. */
export class ConfigError extends Error {
	override readonly name = "ConfigError";
	readonly key: string;
	constructor(key: string, problem: string) {
		super(`${key}: ${problem}`);
		this.key = key;
	}
}

type Settings = { -readonly [K in keyof HubOptions]: HubOptions[K] };

interface Setting {
	/** The flag without its dashes; the file's key is the same, the environment variable is made from it. */
	readonly name: string;
	/** What the value looks like; undefined for a switch. */
	readonly value?: string;
	readonly help: string;
	/** Puts a value into the settings; throws a plain `Error` that says what is wrong with it. */
	apply(settings: Settings, text: string): void;
}

const SETTINGS: readonly Setting[] = [
	{
		name: "listen",
		value: "HOST:PORT",
		help: "where to listen; port 0 picks a free one (default 127.0.0.1:50051)",
		apply: (settings, text) => {
			settings.listen = parseListen(text);
		},
	},
	{
		name: "data",
		value: "DIR",
		help: "folder of the state; the operator token is DIR/operator.token (default ./data)",
		apply: (settings, text) => {
			if (text === "" || text.includes("\0")) throw new Error("needs a folder");
			settings.dataDirectory = text;
		},
	},
	{
		name: "state",
		value: "BACKEND",
		help: "memory or embedded (default embedded)",
		apply: (settings, text) => {
			settings.state = oneOf(text, ["memory", "embedded"]);
		},
	},
	{
		name: "dev",
		help: "let plugins register without a credential; loopback only",
		apply: (settings, text) => {
			settings.dev = parseSwitch(text);
		},
	},
	{
		name: "fast-lane",
		help: "answer plain gRPC without the Connect library; --no-fast-lane turns it off (default on)",
		apply: (settings, text) => {
			settings.fastLane = parseSwitch(text);
		},
	},
	{
		name: "tls-cert",
		value: "FILE",
		help: "PEM certificate chain; turns TLS on and cleartext off; read again when it changes",
		apply: (settings, text) => {
			settings.tls = { certFile: text, keyFile: settings.tls?.keyFile ?? "" };
		},
	},
	{
		name: "tls-key",
		value: "FILE",
		help: "PEM private key of the certificate",
		apply: (settings, text) => {
			settings.tls = { certFile: settings.tls?.certFile ?? "", keyFile: text };
		},
	},
	{
		name: "cors-origins",
		value: "LIST",
		help: "origins that browsers may call from, split by commas; * for any (default none)",
		apply: (settings, text) => {
			settings.corsOrigins = text
				.split(",")
				.map((origin) => origin.trim())
				.filter((origin) => origin !== "")
				.map(parseOrigin);
		},
	},
	{
		name: "log-level",
		value: "LEVEL",
		help: "debug, info, warn, error or silent (default info)",
		apply: (settings, text) => {
			settings.logLevel = oneOf(text, ["debug", "info", "warn", "error", "silent"]);
		},
	},
	{
		name: "new-operator-token",
		help: "replace DIR/operator.token and revoke the one before",
		apply: (settings, text) => {
			settings.newOperatorToken = parseSwitch(text);
		},
	},
	{
		name: "lease-seconds",
		value: "N",
		help: "how long a lease lasts without a heartbeat, 1-3600 (default 30)",
		apply: (settings, text) => {
			settings.leaseMs = parseNumber(text, 1, 3600) * 1000;
		},
	},
	{
		name: "drain-seconds",
		value: "N",
		help: "how long streams may take to end at shutdown, 0-600 (default 8)",
		apply: (settings, text) => {
			settings.drainMs = parseNumber(text, 0, 600) * 1000;
		},
	},
	{
		name: "id-window-seconds",
		value: "N",
		help: "how long ids of events and durable messages are remembered, 1-86400 (default 120)",
		apply: (settings, text) => {
			settings.idWindow = { ...settings.idWindow, ms: parseNumber(text, 1, 86_400) * 1000 };
		},
	},
	{
		name: "retention-hours",
		value: "N",
		help: "how long events are kept; 0: for ever (default 168)",
		apply: (settings, text) => {
			settings.retention = { ...settings.retention, maxAgeMs: parseNumber(text, 0, 1_000_000) * 3_600_000 };
		},
	},
	{
		name: "retention-events",
		value: "N",
		help: "how many events are kept; 0: any number (default 10000000)",
		apply: (settings, text) => {
			settings.retention = { ...settings.retention, maxRecords: parseNumber(text, 0, 1e12) };
		},
	},
	{
		name: "retention-bytes",
		value: "N",
		help: "how many bytes of events are kept; 0: any number (default 8589934592)",
		apply: (settings, text) => {
			settings.retention = { ...settings.retention, maxBytes: parseNumber(text, 0, 1e15) };
		},
	},
	{
		name: "max-connections",
		value: "N",
		help: "connections at once, 1-1000000 (default 10000)",
		apply: (settings, text) => {
			settings.maxConnections = parseNumber(text, 1, 1_000_000);
		},
	},
];

/** What the command does in place of running a hub, and what that needs to know. */
const TASKS: readonly { readonly name: string; readonly value: string; readonly help: string }[] = [
	{ name: "backup", value: "FILE", help: "write a backup of a running hub to FILE, which must not exist, and exit" },
	{ name: "hub", value: "URL", help: "the hub to back up (default http://127.0.0.1:50051)" },
	{ name: "token-file", value: "FILE", help: "an operator's token, for --backup (default DIR/operator.token)" },
	{ name: "verify-backup", value: "FILE", help: "read all of a backup, say what is in it, and exit" },
	{ name: "restore", value: "FILE", help: "make a backup the state in DIR, which must be empty, and exit" },
];

const BY_NAME = new Map(SETTINGS.map((setting) => [setting.name, setting]));
const ENV_PREFIX = "QIRVO_HUB_";

export type ParsedConfig =
	| { readonly kind: "run"; readonly options: HubOptions }
	| { readonly kind: "backup"; readonly file: string; readonly url: string; readonly tokenFile: string }
	| { readonly kind: "verify-backup"; readonly file: string }
	| { readonly kind: "restore"; readonly file: string; readonly directory: string }
	| { readonly kind: "help" }
	| { readonly kind: "version" };

/**
 * Flags win over environment variables (`QIRVO_HUB_LISTEN`, ...), which win over the file that `--config` or
 * `QIRVO_HUB_CONFIG` names: a JSON object whose keys are the flags without their dashes. Throws `ConfigError`.
 */
export function parseConfig(argv: readonly string[], env: Readonly<Record<string, string | undefined>>): ParsedConfig {
	const flags = parseFlags(argv);
	if (flags.some((flag) => flag.name === "help")) return { kind: "help" };
	if (flags.some((flag) => flag.name === "version")) return { kind: "version" };
	const settings: Settings = { ...DEFAULT_OPTIONS };
	const configFlag = flags.findLast((flag) => flag.name === "config");
	const configFile = configFlag?.text ?? env[`${ENV_PREFIX}CONFIG`];
	if (configFile !== undefined) applyFile(settings, configFile, configFlag ? "--config" : `${ENV_PREFIX}CONFIG`);
	for (const [variable, text] of Object.entries(env)) {
		if (!variable.startsWith(ENV_PREFIX) || text === undefined || variable === `${ENV_PREFIX}CONFIG`) continue;
		const name = variable.slice(ENV_PREFIX.length).toLowerCase().replaceAll("_", "-");
		apply(settings, BY_NAME.get(name), text, variable);
	}
	const tasks = new Map(flags.filter(isOfTask).map(({ name, text }) => [name, text]));
	for (const flag of flags)
		if (flag.name !== "config" && !isOfTask(flag)) apply(settings, BY_NAME.get(flag.name), flag.text, flag.key);
	if (settings.tls && (settings.tls.certFile === "" || settings.tls.keyFile === "")) {
		const missing = settings.tls.certFile === "" ? "tls-cert" : "tls-key";
		throw new ConfigError(missing, "tls-cert and tls-key go together");
	}
	return tasks.size === 0 ? { kind: "run", options: settings } : task(tasks, settings.dataDirectory);
}

function isOfTask({ name }: Flag): boolean {
	return TASKS.some((one) => one.name === name);
}

function task(given: ReadonlyMap<string, string>, directory: string): ParsedConfig {
	const [name, ...others] = ["backup", "verify-backup", "restore"].filter((each) => given.has(each));
	const file = given.get(name ?? "");
	if (others.length > 0) throw new ConfigError(`--${others[0]}`, `does not go with --${name}`);
	const stray = ["hub", "token-file"].find((each) => given.has(each));
	if (stray !== undefined && name !== "backup") throw new ConfigError(`--${stray}`, "goes with --backup");
	if (file === undefined || file === "") throw new ConfigError(`--${name}`, "needs a file");
	switch (name) {
		case "backup": {
			const url = given.get("hub") ?? "http://127.0.0.1:50051";
			if (!/^https?:\/\/[^/]/.test(url) || !URL.canParse(url)) {
				throw new ConfigError("--hub", `needs a URL such as http://127.0.0.1:50051, got "${url}"`);
			}
			return { kind: "backup", file, url, tokenFile: given.get("token-file") ?? join(directory, "operator.token") };
		}
		case "restore":
			return { kind: "restore", file, directory };
		default:
			return { kind: "verify-backup", file };
	}
}

/** The text of `--help`. */
export function helpText(): string {
	const rows = [
		...SETTINGS.map(
			(setting) => [`--${setting.name}${setting.value ? ` ${setting.value}` : ""}`, setting.help] as const,
		),
		...TASKS.map(({ name, value, help }) => [`--${name} ${value}`, help] as const),
		["--config FILE", 'a JSON object with the same keys, such as { "listen": "127.0.0.1:50051" }'] as const,
		["--help", "this text"] as const,
		["--version", "the version"] as const,
	];
	const width = Math.max(...rows.map(([left]) => left.length));
	const lines = rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`);
	return `usage: plugin-hub [flags]\n\n${lines.join("\n")}\n\nEach flag can be set by the environment too: --log-level is ${ENV_PREFIX}LOG_LEVEL.\n`;
}

interface Flag {
	readonly name: string;
	readonly key: string;
	readonly text: string;
}

function parseFlags(argv: readonly string[]): Flag[] {
	const flags: Flag[] = [];
	for (let i = 0; i < argv.length; i++) {
		const argument = argv[i] ?? "";
		if (!argument.startsWith("--")) throw new ConfigError(argument, "is not a flag; see --help");
		const equals = argument.indexOf("=");
		const key = equals < 0 ? argument : argument.slice(0, equals);
		const bare = key.slice(2);
		if (bare === "help" || bare === "version") {
			flags.push({ name: bare, key, text: "true" });
			continue;
		}
		const setting = BY_NAME.get(bare);
		const isTask = TASKS.some((one) => one.name === bare);
		if (bare === "config" || isTask || setting?.value !== undefined) {
			const text = equals < 0 ? argv[++i] : argument.slice(equals + 1);
			if (text === undefined) throw new ConfigError(key, "needs a value");
			flags.push({ name: bare, key, text });
		} else if (setting) {
			flags.push({ name: bare, key, text: equals < 0 ? "true" : argument.slice(equals + 1) });
		} else if (
			bare.startsWith("no-") &&
			BY_NAME.get(bare.slice(3))?.value === undefined &&
			BY_NAME.has(bare.slice(3))
		) {
			if (equals >= 0) throw new ConfigError(key, "takes no value");
			flags.push({ name: bare.slice(3), key, text: "false" });
		} else throw new ConfigError(key, "is not a known flag; see --help");
	}
	return flags;
}

function applyFile(settings: Settings, file: string, key: string): void {
	let parsed: unknown;
	try {
		parsed = JSON.parse(readFileSync(file, "utf8"));
	} catch (error) {
		throw new ConfigError(key, `cannot read ${file}: ${error instanceof Error ? error.message : String(error)}`);
	}
	if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) {
		throw new ConfigError(key, `${file} does not hold a JSON object`);
	}
	for (const [name, value] of Object.entries(parsed)) {
		const text = Array.isArray(value) ? value.join(",") : String(value);
		apply(settings, BY_NAME.get(name), text, `${file}: ${name}`);
	}
}

function apply(settings: Settings, setting: Setting | undefined, text: string, key: string): void {
	if (!setting) throw new ConfigError(key, "is not a known setting; see --help");
	try {
		setting.apply(settings, text);
	} catch (error) {
		throw new ConfigError(key, error instanceof Error ? error.message : String(error));
	}
}

function parseListen(text: string): { host: string; port: number } {
	const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(text);
	const port = Number(match?.[3]);
	if (!match || port > 65_535) throw new Error(`needs HOST:PORT such as 127.0.0.1:50051 or [::1]:50051, got "${text}"`);
	return { host: match[1] ?? match[2] ?? "", port };
}

function parseOrigin(text: string): string {
	if (text === "*") return text;
	if (!URL.canParse(text) || new URL(text).origin !== text)
		throw new Error(`needs origins such as https://app.example, got "${text}"`);
	return text;
}

function parseSwitch(text: string): boolean {
	if (text === "true" || text === "1") return true;
	if (text === "false" || text === "0") return false;
	throw new Error(`needs true or false, got "${text}"`);
}

function parseNumber(text: string, least: number, most: number): number {
	const value = Number(text);
	if (text.trim() === "" || !Number.isFinite(value) || value < least || value > most) {
		throw new Error(`needs a number from ${least} to ${most}, got "${text}"`);
	}
	return value;
}

function oneOf<const T extends string>(text: string, choices: readonly T[]): T {
	const found = choices.find((choice) => choice === text);
	if (found === undefined) throw new Error(`needs one of ${choices.join(", ")}, got "${text}"`);
	return found;
}
