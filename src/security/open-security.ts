import type { Clock, IdSource } from "../clock/clock.ts";
import type { StateBackend } from "../state/state-backend.ts";
import { AuditLog } from "./audit-log.ts";
import type { ContentRule } from "./content-rule.ts";
import { Credentials } from "./credentials.ts";
import { DevCredentials } from "./dev-credentials.ts";
import { Guard } from "./guard.ts";
import type { RateRule } from "./guard-rules.ts";
import { IssueRequests } from "./issue-requests.ts";
import { OpenStreams } from "./open-streams.ts";
import { ensureOperatorToken } from "./operator-token.ts";
import { PolicyAdmin } from "./policy-admin.ts";
import { PolicyView } from "./policy-view.ts";
import { RefusedCalls } from "./refused-calls.ts";
import { loadSigningKey } from "./signing-key.ts";
import { Tokens } from "./token.ts";
import { TokenAuthenticator } from "./token-authenticator.ts";

export interface SecurityOptions {
	readonly state: Pick<StateBackend, "kv" | "log">;
	readonly clock: Clock;
	readonly ids: IdSource;
	readonly rate?: RateRule;
	readonly contentPolicy?: ContentRule;
	/** Default 1,024. */
	readonly maxStreamsPerPrincipal?: number;
	/** Records that each of the two audit logs keeps, about. Default 100,000. */
	readonly maxAuditRecords?: number;
}

/** The security subsystem, running. */
export interface Security extends AsyncDisposable {
	readonly guard: Guard;
	readonly authenticator: TokenAuthenticator;
	readonly openStreams: OpenStreams;
	readonly credentials: Credentials;
	readonly policyAdmin: PolicyAdmin;
	readonly policy: PolicyView;
	readonly devCredentials: DevCredentials;
	readonly refusedCalls: RefusedCalls;
	readonly audit: AuditLog;
	/** `ensureOperatorToken` of this hub. */
	ensureOperatorToken(options: { directory: string; newToken: boolean }): Promise<string>;
}

/** Audit ids are remembered this long, so that moving a record again after a crash does not repeat it. */
const AUDIT_IDS = Object.freeze({ rememberMs: 7 * 86_400_000, rememberIds: 100_000 });

/** Opens the subsystem on the hub's state: makes the signing key where there is none, and follows the policy. */
export async function openSecurity(options: SecurityOptions): Promise<Security> {
	const { state, clock, ids } = options;
	const { kv } = state;
	const tokens = new Tokens(await loadSigningKey(kv, ids));
	const audit = new AuditLog({
		kv,
		changes: await state.log("audit", AUDIT_IDS),
		denials: await state.log("denials", AUDIT_IDS),
		clock,
		ids,
		maxRecords: options.maxAuditRecords,
	});
	await audit.start();
	const policy = new PolicyView(kv, clock);
	policy.start();
	const openStreams = new OpenStreams({ kv, policy, clock, audit, maxPerPrincipal: options.maxStreamsPerPrincipal });
	openStreams.start();
	const requests = new IssueRequests(kv, clock);
	const credentials = new Credentials({ kv, policy, tokens, audit, requests, clock, ids });
	const { rate, contentPolicy } = options;
	return {
		guard: new Guard({ policy, audit, rate, contentPolicy }),
		authenticator: new TokenAuthenticator({ tokens, policy, clock }),
		openStreams,
		credentials,
		policyAdmin: new PolicyAdmin({ kv, policy, audit, ids }),
		policy,
		devCredentials: new DevCredentials({ kv, policy, credentials, audit, ids }),
		refusedCalls: new RefusedCalls(audit),
		audit,
		ensureOperatorToken: (where) => ensureOperatorToken({ ...where, credentials, tokens, policy, clock, ids }),
		async [Symbol.asyncDispose]() {
			await openStreams[Symbol.asyncDispose]();
			await policy[Symbol.asyncDispose]();
			await audit[Symbol.asyncDispose]();
		},
	};
}
