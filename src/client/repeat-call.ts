import { Code } from "@connectrpc/connect";
import type { ClientContext } from "./client-context.ts";
import { oldestRemembered, outcomeUnknown } from "./emit-sink.ts";
import { cancelled, HubClientError, toClientError } from "./errors.ts";
import { breaksConnection, keepOpen } from "./keep-open.ts";
import type { Connection } from "./session-loop.ts";

/** How long a call may take, and what ends it before. */
export interface CallOptions {
	/** Milliseconds until it fails with DEADLINE_EXCEEDED, waits for a connection included. Default: the client's `callTimeout`. */
	readonly timeout?: number | undefined;
	/** Gives the wait up. */
	readonly signal?: AbortSignal | undefined;
}

export interface RepeatCallOptions extends CallOptions {
	/** It is a write under a request id: not repeated when the hub may have forgotten the id. */
	readonly hasRequestId?: boolean;
}

/** Makes a unary call that may be made twice, again after each loss of the connection. Rejects with a `HubClientError`. */
export async function repeatCall<R>(
	context: ClientContext,
	options: RepeatCallOptions,
	call: (options: { readonly signal: AbortSignal }) => Promise<R>,
): Promise<R> {
	const { session, clock, random } = context;
	const { timeout = context.callTimeoutMs, signal: outer, hasRequestId = false } = options;
	if (outer?.aborted) throw cancelled(outer);
	const controller = new AbortController();
	const { signal } = controller;
	const late = () =>
		controller.abort(
			new HubClientError("DEADLINE_EXCEEDED", `no answer within ${timeout} ms`, {
				code: Code.DeadlineExceeded,
				cause: session.lastError,
			}),
		);
	const leave = () => controller.abort(cancelled(outer!));
	const timer = clock.after(timeout, late);
	outer?.addEventListener("abort", leave, { once: true });
	let result: { readonly value: R } | { readonly error: HubClientError } | undefined;
	let sentAt: number | undefined;
	const run = async (connection: Connection, attempt: AbortSignal) => {
		if (hasRequestId && sentAt !== undefined && sentAt < oldestRemembered(connection, clock)) throw outcomeUnknown();
		sentAt ??= clock.monotonic();
		try {
			result = { value: await call({ signal: attempt }) };
		} catch (thrown) {
			const error = toClientError(thrown, attempt);
			if (attempt.aborted || breaksConnection(error)) throw error;
			result = { error };
		}
	};
	try {
		const error = await keepOpen({ session, clock, random, signal, run });
		if (result === undefined) throw signal.aborted ? signal.reason : (error ?? session.failure);
		if ("error" in result) throw result.error;
		return result.value;
	} finally {
		timer.cancel();
		outer?.removeEventListener("abort", leave);
	}
}
