import type { Clock, IdSource } from "../clock/clock.ts";
import { AuditLog } from "../security/audit-log.ts";
import { Credentials } from "../security/credentials.ts";
import { Guard } from "../security/guard.ts";
import { IssueRequests } from "../security/issue-requests.ts";
import { OpenStreams } from "../security/open-streams.ts";
import { PolicyView } from "../security/policy-view.ts";
import { loadSigningKey } from "../security/signing-key.ts";
import { Tokens } from "../security/token.ts";
import { TokenAuthenticator } from "../security/token-authenticator.ts";
import type { StateBackend } from "../state/state-backend.ts";

/** The security layer, running. */
export interface Security {
	readonly audit: AuditLog;
	readonly policy: PolicyView;
	readonly tokens: Tokens;
	readonly credentials: Credentials;
	readonly authenticator: TokenAuthenticator;
	readonly guard: Guard;
	readonly openStreams: OpenStreams;
}

/** Opens the security layer on the state. What it starts is ended by `owner`, in reverse. */
export async function openSecurity(
	state: StateBackend,
	clock: Clock,
	ids: IdSource,
	owner: AsyncDisposableStack,
): Promise<Security> {
	const { kv } = state;
	const [changes, denials, key] = await Promise.all([
		state.log("audit-changes"),
		state.log("audit-denials"),
		loadSigningKey(kv, ids),
	]);
	const audit = owner.use(new AuditLog({ kv, changes, denials, clock, ids }));
	await audit.start();
	const policy = owner.use(new PolicyView(kv, clock));
	policy.start();
	const tokens = new Tokens(key);
	const openStreams = owner.use(new OpenStreams({ kv, policy, clock, audit }));
	openStreams.start();
	return {
		audit,
		policy,
		tokens,
		credentials: new Credentials({ kv, policy, tokens, audit, requests: new IssueRequests(kv, clock), clock, ids }),
		authenticator: new TokenAuthenticator({ tokens, policy, audit, clock }),
		guard: new Guard({ policy, audit }),
		openStreams,
	};
}
