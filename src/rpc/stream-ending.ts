import type { Ending } from "../events/subscription.ts";
import { HubError } from "../hub-error.ts";
import type { Caller } from "../security/caller.ts";
import type { Call } from "./call.ts";

/** Where long-lived streams are registered, so that a change of policy ends them. */
export interface StreamRegistry {
	open(caller: Caller, stream: { recheck(): void; revoke(error: HubError): void }): Disposable;
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
		const isDraining = signal.reason instanceof HubError && signal.reason.reason === "HUB_DRAINING";
		dispose();
		end(signal.reason, isDraining ? "draining" : "silent");
	};
	registered = registry.open(call.caller, { recheck, revoke: (error) => end(error, "revoked") });
	signal.addEventListener("abort", aborted);
	if (signal.aborted) aborted();
	return { [Symbol.dispose]: dispose };
}
