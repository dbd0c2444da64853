/** Where the client says what it does. `console` and pino loggers fit. */
export interface ClientLogger {
	debug(...details: unknown[]): void;
	warn(...details: unknown[]): void;
	error(...details: unknown[]): void;
}

/** Warnings and errors only. */
export const defaultLogger: ClientLogger = {
	debug() {},
	warn: (...details) => console.warn(...details),
	error: (...details) => console.error(...details),
};
