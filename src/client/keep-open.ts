import type { Clock } from "../clock/clock.ts";
import { Backoff } from "../streams/backoff.ts";
import { type HubClientError, toClientError } from "./errors.ts";
import { pause } from "./pause.ts";
import type { Connection, SessionLoop } from "./session-loop.ts";

export interface KeepOpenOptions {
	readonly session: SessionLoop;
	readonly clock: Clock;
	readonly random: () => number;
	/** Ends it. */
	readonly signal: AbortSignal;
	/**
	 * Opens the stream and serves it until it ends. Returning means that nothing is left to do; a stream that ended too
	 * early is an error. The signal aborts when the connection is lost.
	 */
	readonly run: (connection: Connection, signal: AbortSignal) => Promise<void>;
	/** Told of each failure that is followed by another try. */
	readonly onRetry?: (error: HubClientError) => void;
}

/** A stream that lived this long was a good one. */
const SETTLED_AFTER_MS = 5_000;

/**
 * Opens a stream again and again: at once on a new connection, after a wait where only the stream failed. Resolves with
 * undefined when `run` returned or the signal aborted, and with the error when trying again is of no use.
 */
export async function keepOpen(options: KeepOpenOptions): Promise<HubClientError | undefined> {
	const { session, clock, signal, run } = options;
	const backoff = new Backoff({ initialMs: 100, maxMs: 10_000, random: options.random });
	while (!signal.aborted) {
		let connection: Connection;
		try {
			connection = await session.connected(signal);
		} catch (error) {
			return signal.aborted ? undefined : toClientError(error);
		}
		const attempt = new AbortController();
		const end = () => attempt.abort(connection.signal.aborted ? connection.signal.reason : signal.reason);
		connection.signal.addEventListener("abort", end, { once: true });
		signal.addEventListener("abort", end, { once: true });
		const started = clock.monotonic();
		try {
			await run(connection, attempt.signal);
			return undefined;
		} catch (thrown) {
			if (signal.aborted) return undefined;
			const error = connection.signal.aborted ? toClientError(connection.signal.reason) : toClientError(thrown);
			if (connection.signal.aborted) {
				options.onRetry?.(error);
			} else if (breaksConnection(error)) {
				options.onRetry?.(error);
				connection.lost(error);
			} else if (error.isTransient) {
				options.onRetry?.(error);
				if (clock.monotonic() - started >= SETTLED_AFTER_MS) backoff.reset();
				await pause(clock, Math.max(backoff.next(), error.retryAfterMs ?? 0), signal);
			} else {
				return error;
			}
		} finally {
			connection.signal.removeEventListener("abort", end);
			signal.removeEventListener("abort", end);
			attempt.abort();
		}
	}
	return undefined;
}

const BREAKS_CONNECTION: ReadonlySet<string> = new Set([
	"CONNECTION_LOST",
	"HUB_DRAINING",
	"INSTANCE_NOT_FOUND",
	"CREDENTIAL_EXPIRED",
]);

/** Whether a failure says that the connection as a whole is gone. */
export function breaksConnection(error: HubClientError): boolean {
	return BREAKS_CONNECTION.has(error.reason);
}
