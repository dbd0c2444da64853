import type { HubError } from "../hub-error.ts";
import type { AuditRecorder } from "./audit-entry.ts";
import { type Caller, type PeerInfo, principalOf } from "./caller.ts";

/** What is known of a call that was refused before its handler ran. */
export interface RefusedCall {
	readonly method: string;
	readonly caller: Caller;
	readonly peer: PeerInfo;
	readonly requestId: string;
}

const AUTHENTICATION_FAILURES: ReadonlySet<string> = new Set([
	"CREDENTIAL_MISSING",
	"CREDENTIAL_INVALID",
	"CREDENTIAL_EXPIRED",
	"CREDENTIAL_REVOKED",
	"PLUGIN_DISABLED",
]);

/** Records calls that were refused for who makes them. */
export class RefusedCalls {
	readonly #audit: AuditRecorder;

	constructor(audit: AuditRecorder) {
		this.#audit = audit;
	}

	refused(call: RefusedCall, error: HubError): void {
		this.#audit.record({
			event: AUTHENTICATION_FAILURES.has(error.reason) ? "authentication_failed" : "call_denied",
			actor: error.metadata.principal ?? principalOf(call.caller),
			target: `method:${call.method}`,
			reason: error.reason.toLowerCase(),
			details: { peer: call.peer.address },
			requestId: call.requestId,
		});
	}
}
