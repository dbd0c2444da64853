import { durationFromMs } from "@bufbuild/protobuf/wkt";
import type { HubError } from "../hub-error.ts";
import { HEARTBEAT_MS } from "../streams/heartbeat.ts";

/** The frames that every long stream has beside its own. */
type CommonFrame =
	| { readonly case: "heartbeat" | "draining"; readonly value: Record<never, never> }
	| { readonly case: "revoked"; readonly value: { readonly reason: string; readonly message: string } };

/** They in the form that a stream sends. */
export interface StreamFrames<F> {
	heartbeat(): F;
	draining(): F;
	revoked(error: HubError): F;
}

/** `wrap` makes a frame a response of the stream. */
export function streamFrames<F>(wrap: (frame: CommonFrame) => F): StreamFrames<F> {
	return {
		heartbeat: () => wrap({ case: "heartbeat", value: {} }),
		draining: () => wrap({ case: "draining", value: {} }),
		revoked: ({ reason, message }) => wrap({ case: "revoked", value: { reason, message } }),
	};
}

/** The first frame of a stream; `id` is of the subscription or session that it serves. */
export function readyFrame(id: string) {
	return { case: "ready", value: { id, heartbeatInterval: durationFromMs(HEARTBEAT_MS) } } as const;
}
