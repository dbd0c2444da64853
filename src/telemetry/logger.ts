import pino from "pino";

/** The part of pino that the hub uses, so that an embedder may pass a logger of its own. */
export interface Logger {
	debug(fields: object, message: string): void;
	info(fields: object, message: string): void;
	warn(fields: object, message: string): void;
	error(fields: object, message: string): void;
	/** A logger that adds `fields` to each of its lines. */
	child(fields: Record<string, unknown>): Logger;
}

export type LogLevel = "debug" | "info" | "warn" | "error" | "silent";

/** Where lines go; each call is one line of JSON with its line break. */
export interface LogDestination {
	write(line: string): void;
}

/**
 * JSON lines with an ISO time, to standard error unless `destination` says otherwise. Values under the names that carry
 * credentials are replaced, wherever a caller logs request headers.
 */
export function createLogger(options: { level: LogLevel; destination?: LogDestination }): Logger {
	const settings: pino.LoggerOptions = {
		level: options.level,
		base: null,
		timestamp: pino.stdTimeFunctions.isoTime,
		formatters: { level: (label) => ({ level: label }) },
		redact: { paths: ["authorization", "token", "secret", "*.authorization", "*.token", "*.secret"], censor: "***" },
	};
	return pino(settings, options.destination ?? pino.destination({ dest: 2, sync: false }));
}

/** Says nothing. For tests and for embedders that do not log. */
export const silentLogger: Logger = Object.freeze({
	debug() {},
	info() {},
	warn() {},
	error() {},
	child: () => silentLogger,
});
