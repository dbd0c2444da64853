import type { Clock, IdSource } from "../clock/clock.ts";
import type { FirstAnswers } from "../idempotency/first-answers.ts";
import { AuditLog } from "../security/audit-log.ts";
import type { ContentRule } from "../security/content-rule.ts";
import { Credentials } from "../security/credentials.ts";
import { DevCredentials } from "../security/dev-credentials.ts";
import { Guard } from "../security/guard.ts";
import type { RateRule } from "../security/guard-rules.ts";
import { OpenStreams } from "../security/open-streams.ts";
import { PolicyAdmin } from "../security/policy-admin.ts";
import { PolicyView } from "../security/policy-view.ts";
import { RefusedCalls } from "../security/refused-calls.ts";
import { ResumeTokens } from "../security/resume-tokens.ts";
import { loadSigningKey } from "../security/signing-key.ts";
import { Tokens } from "../security/token.ts";
import { TokenAuthenticator } from "../security/token-authenticator.ts";
import type { StateBackend } from "../state/state-backend.ts";
import type { Owner } from "./owner.ts";

/** The security layer, running. */
export interface Security {
	readonly audit: AuditLog;
	readonly policy: PolicyView;
	readonly policyAdmin: PolicyAdmin;
	readonly tokens: Tokens;
	readonly resumeTokens: ResumeTokens;
	readonly credentials: Credentials;
	readonly devCredentials: DevCredentials;
	readonly authenticator: TokenAuthenticator;
	readonly guard: Guard;
	readonly openStreams: OpenStreams;
	/** What the pipeline refuses before a handler runs is told to this. */
	readonly refusedCalls: RefusedCalls;
}

/** Rules and bounds that an embedder may set. */
export interface SecurityRules {
	readonly rate?: RateRule;
	readonly contentPolicy?: ContentRule;
	/** Default 1,024. */
	readonly maxStreamsPerPrincipal?: number;
}

/** Remembered for so long, an audit record that is moved to its log again after a crash is not stored twice. */
const AUDIT_IDS = Object.freeze({ rememberMs: 7 * 86_400_000, rememberIds: 100_000 });

/** Opens the security layer on the state. What it starts is ended by `owner`, in reverse. */
export async function openSecurity(parts: {
	readonly state: StateBackend;
	readonly clock: Clock;
	readonly ids: IdSource;
	readonly answers: FirstAnswers;
	readonly owner: Owner;
	readonly rules?: SecurityRules;
}): Promise<Security> {
	const { state, clock, ids, answers, owner, rules = {} } = parts;
	const { kv } = state;
	const [changes, denials, key] = await Promise.all([
		state.log("audit-changes", AUDIT_IDS),
		state.log("audit-denials", AUDIT_IDS),
		loadSigningKey(kv, ids),
	]);
	const audit = owner.use(new AuditLog({ kv, changes, denials, clock, ids }));
	await audit.start();
	const policy = owner.use(new PolicyView(kv, clock));
	policy.start();
	const tokens = new Tokens(key);
	const openStreams = owner.use(
		new OpenStreams({ kv, policy, clock, audit, maxPerPrincipal: rules.maxStreamsPerPrincipal }),
	);
	openStreams.start();
	const credentials = new Credentials({ kv, policy, tokens, audit, answers, clock, ids });
	return {
		audit,
		policy,
		policyAdmin: new PolicyAdmin({ policy, audit, answers }),
		tokens,
		resumeTokens: new ResumeTokens(key),
		credentials,
		devCredentials: new DevCredentials({ kv, policy, credentials, audit, ids }),
		authenticator: new TokenAuthenticator({ tokens, policy, clock }),
		guard: new Guard({ policy, audit, rate: rules.rate, contentPolicy: rules.contentPolicy }),
		openStreams,
		refusedCalls: new RefusedCalls(audit),
	};
}
