/** Who makes a call, as its credential says. Never taken from a request field. */
export type Caller =
	| { readonly kind: "anonymous" }
	| {
			readonly kind: "operator";
			readonly id: string;
			readonly credentialId: string;
			readonly expiresAt: number | undefined;
	  }
	| {
			readonly kind: "plugin";
			readonly id: string;
			readonly credentialId: string;
			readonly expiresAt: number | undefined;
	  };

export const ANONYMOUS: Caller = Object.freeze({ kind: "anonymous" });

/** How audit records, logs and policy changes name a caller: `plugin:weather`, `operator:root`, `anonymous`. */
export function principalOf(caller: Caller): string {
	return caller.kind === "anonymous" ? "anonymous" : `${caller.kind}:${caller.id}`;
}

/** What a transport knows of whoever sent a request. */
export interface PeerInfo {
	/** `address:port`, for logs only. */
	readonly address: string;
	readonly encrypted: boolean;
}

/** Turns the credential of a request into a caller. */
export interface Authenticator {
	/**
	 * `authorization` is the header's value, undefined where there is none (which gives `ANONYMOUS`; the method policy
	 * decides whether that is enough). Rejects with a `HubError` of UNAUTHENTICATED kind on a bad, expired or revoked
	 * credential. Answers synchronously where it has verified the same credential a moment ago.
	 */
	authenticate(authorization: string | undefined, peer: PeerInfo): Caller | Promise<Caller>;
}
