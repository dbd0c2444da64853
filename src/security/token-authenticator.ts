import type { Clock } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import type { AuditRecorder } from "./audit-entry.ts";
import { ANONYMOUS, type Authenticator, type Caller, type PeerInfo, principalOf } from "./caller.ts";
import { credentialProblem } from "./credential-state.ts";
import { disabledPlugin } from "./guard-rules.ts";
import type { PolicyView } from "./policy-view.ts";
import { RecentCache } from "./recent-cache.ts";
import { MAX_TOKEN_LENGTH, type Tokens } from "./token.ts";

/** Verified tokens kept, at least; twice as many at most. One takes about 600 bytes. */
const CACHED_TOKENS = 8192;

const BEARER = /^Bearer +([^ ]+) *$/i;

export interface TokenAuthenticatorOptions {
	readonly tokens: Tokens;
	readonly policy: PolicyView;
	readonly audit: AuditRecorder;
	readonly clock: Clock;
}

/** A token whose signature was verified. Expiry, revocation and disabling are looked at anew. */
interface Verified {
	readonly caller: Exclude<Caller, { kind: "anonymous" }>;
	readonly expiresAt: number;
	/** The policy epoch under which the credential was last found in order. */
	epoch: number;
}

/**
 * Bearer tokens of the hub's own key. A token that was verified lately costs a lookup and two comparisons; its state is
 * read again only when the policy has changed.
 */
export class TokenAuthenticator implements Authenticator {
	readonly #options: TokenAuthenticatorOptions;
	readonly #verified = new RecentCache<Verified>(CACHED_TOKENS);

	constructor(options: TokenAuthenticatorOptions) {
		this.#options = options;
	}

	/**
	 * Throws or rejects with CREDENTIAL_INVALID, CREDENTIAL_EXPIRED, CREDENTIAL_REVOKED, or PLUGIN_DISABLED, and records
	 * it. The same caller object is given for the same token while it is remembered.
	 */
	authenticate(authorization: string | undefined, peer: PeerInfo): Caller | Promise<Caller> {
		if (authorization === undefined) return ANONYMOUS;
		const verified = this.#verified.get(authorization);
		if (verified === undefined) return this.#verify(authorization, peer);
		return this.#admit(verified, peer);
	}

	async #verify(authorization: string, peer: PeerInfo): Promise<Caller> {
		const { tokens, clock } = this.#options;
		let verified: Verified;
		try {
			const claims = await tokens.verify(readToken(authorization), clock.now());
			const { credentialId, expiresAt, principal } = claims;
			const caller = Object.freeze({ ...principal, credentialId, expiresAt });
			verified = { caller, expiresAt, epoch: -1 };
		} catch (error) {
			if (error instanceof HubError) this.#recordFailure("anonymous", error, peer);
			throw error;
		}
		const caller = this.#admit(verified, peer);
		this.#verified.set(authorization, verified);
		return caller;
	}

	#admit(verified: Verified, peer: PeerInfo): Caller {
		const { policy, clock } = this.#options;
		const now = clock.now();
		if (now < verified.expiresAt && verified.epoch === policy.epoch) return verified.caller;
		const problem = this.#problem(verified.caller, now);
		if (problem !== undefined) {
			this.#recordFailure(principalOf(verified.caller), problem, peer);
			throw problem;
		}
		verified.epoch = policy.epoch;
		return verified.caller;
	}

	#problem(caller: Verified["caller"], now: number): HubError | undefined {
		const { policy } = this.#options;
		const problem = credentialProblem(policy.credential(principalOf(caller), caller.credentialId), now);
		if (problem !== undefined) return problem;
		return caller.kind === "plugin" && policy.plugin(caller.id).disabled ? disabledPlugin(caller.id) : undefined;
	}

	#recordFailure(actor: string, error: HubError, peer: PeerInfo): void {
		this.#options.audit.record({
			event: "authentication_failed",
			actor,
			target: "hub",
			reason: error.reason.toLowerCase(),
			details: { peer: peer.address },
		});
	}
}

function readToken(authorization: string): string {
	// The length first: the pattern is not run over what cannot be a token.
	const token = authorization.length > MAX_TOKEN_LENGTH ? undefined : BEARER.exec(authorization)?.[1];
	if (token === undefined) {
		throw new HubError("CREDENTIAL_INVALID", "the authorization header is not of the form `Bearer <token>`");
	}
	return token;
}
