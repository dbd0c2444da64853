import type { Ending } from "../events/subscription.ts";
import { HubError } from "../hub-error.ts";
import { isRevocation, type OpenStreams } from "../security/open-streams.ts";
import type { Call } from "./call.ts";

/** Where long-lived streams are registered, so that a change of policy ends them. */
export type StreamRegistry = Pick<OpenStreams, "open">;

/** Where calls that wait for their answer are registered, for the same. */
export type CallRegistry = Pick<OpenStreams, "watch">;

/** Which last frame goes with the error that a stream ends with. */
export function endingOf(error: unknown): Ending {
	if (!(error instanceof HubError)) return "silent";
	if (error.reason === "HUB_DRAINING") return "draining";
	return isRevocation(error) ? "revoked" : "silent";
}

/**
 * Ends a stream when nobody waits for it any more, the hub is stopping, or the right to it is taken away. Throws where it
 * would not be admitted now. The result is disposed with the stream.
 */
export function endWith(
	call: Call,
	registry: StreamRegistry,
	recheck: () => void,
	end: (error: unknown, ending: Ending) => void,
): Disposable {
	const { signal } = call;
	let registered: Disposable | undefined;
	const dispose = () => {
		signal.removeEventListener("abort", aborted);
		registered?.[Symbol.dispose]();
		registered = undefined;
	};
	const aborted = () => {
		dispose();
		end(signal.reason, endingOf(signal.reason));
	};
	registered = registry.open(call.caller, { recheck, revoke: (error) => end(error, "revoked") });
	signal.addEventListener("abort", aborted);
	if (signal.aborted) aborted();
	return { [Symbol.dispose]: dispose };
}
