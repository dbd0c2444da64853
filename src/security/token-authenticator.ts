import type { Clock } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import { ANONYMOUS, type Authenticator, type Caller, principalOf } from "./caller.ts";
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
	 * Throws or rejects with CREDENTIAL_INVALID, CREDENTIAL_EXPIRED, CREDENTIAL_REVOKED, or PLUGIN_DISABLED; once
	 * the signature is verified the error's metadata names the `principal`. The same caller object is given for the same
	 * token while it is remembered.
	 */
	authenticate(authorization: string | undefined): Caller | Promise<Caller> {
		if (authorization === undefined) return ANONYMOUS;
		const verified = this.#verified.get(authorization);
		return verified === undefined ? this.#verify(authorization) : this.#admit(verified);
	}

	async #verify(authorization: string): Promise<Caller> {
		const { tokens, clock } = this.#options;
		const token = readToken(authorization);
		const { credentialId, expiresAt, principal } = await tokens.verify(token, clock.now());
		const verified = { caller: Object.freeze({ ...principal, credentialId, expiresAt }), expiresAt, epoch: -1 };
		const caller = this.#admit(verified);
		// In its usual spelling only: one token padded in many ways must not push the others out.
		if (authorization === `Bearer ${token}`) this.#verified.set(authorization, verified);
		return caller;
	}

	#admit(verified: Verified): Caller {
		const { policy, clock } = this.#options;
		const { caller } = verified;
		const now = clock.now();
		if (now < verified.expiresAt && verified.epoch === policy.epoch) return caller;
		const problem = this.#problem(caller, now);
		if (problem !== undefined) {
			const metadata = { ...problem.metadata, principal: principalOf(caller) };
			throw new HubError(problem.reason, problem.message, { ...problem.options, metadata });
		}
		verified.epoch = policy.epoch;
		return caller;
	}

	#problem(caller: Verified["caller"], now: number): HubError | undefined {
		const { policy } = this.#options;
		const problem = credentialProblem(policy.credential(principalOf(caller), caller.credentialId), now);
		if (problem !== undefined) return problem;
		return caller.kind === "plugin" && policy.plugin(caller.id).disabled ? disabledPlugin(caller.id) : undefined;
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
