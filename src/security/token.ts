import { HubError } from "../hub-error.ts";
import { parsePluginId } from "../subjects/plugin-id.ts";
import type { SigningKey } from "./signing-key.ts";

const TOKEN_ISSUER = "qirvo-hub";

/** The longest token that is looked at, in characters; the hub's own have about 300. */
export const MAX_TOKEN_LENGTH = 8192;

const ALGORITHM = "EdDSA";
const COMPACT_FORM = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/;

/** Whom a token speaks for. */
export interface Principal {
	readonly kind: "plugin" | "operator";
	readonly id: string;
}

/** What a token says. */
export interface TokenClaims {
	readonly principal: Principal;
	readonly credentialId: string;
	/** Wall-clock milliseconds since the Unix epoch, whole seconds. */
	readonly issuedAt: number;
	readonly expiresAt: number;
}

/** Signs and verifies bearer tokens: JWTs signed with one Ed25519 key. */
export class Tokens {
	readonly #key: SigningKey;
	/** Every token that this key signed starts so, which tells others apart before any cryptography. */
	readonly #start: string;

	constructor(key: SigningKey) {
		this.#key = key;
		this.#start = `${Buffer.from(JSON.stringify(headerFor(key))).toString("base64url")}.`;
	}

	/** The claims as a token. Times are cut to whole seconds. */
	async sign(claims: TokenClaims): Promise<string> {
		const { SignJWT } = await jose();
		return new SignJWT()
			.setProtectedHeader(headerFor(this.#key))
			.setIssuer(TOKEN_ISSUER)
			.setSubject(`${claims.principal.kind}:${claims.principal.id}`)
			.setJti(claims.credentialId)
			.setIssuedAt(Math.floor(claims.issuedAt / 1000))
			.setExpirationTime(Math.floor(claims.expiresAt / 1000))
			.sign(this.#key.privateKey);
	}

	/**
	 * What the token says, once its signature is verified. Rejects with CREDENTIAL_INVALID, or CREDENTIAL_EXPIRED where it
	 * is genuine and was valid before `now` (wall-clock milliseconds).
	 */
	async verify(token: string, now: number): Promise<TokenClaims> {
		if (!this.#mayBeOurs(token)) throw invalid();
		const { jwtVerify, errors } = await jose();
		try {
			const { payload } = await jwtVerify(token, this.#key.publicKey, {
				algorithms: [ALGORITHM],
				issuer: TOKEN_ISSUER,
				requiredClaims: ["sub", "jti", "iat", "exp"],
				currentDate: new Date(now),
			});
			return readClaims(payload);
		} catch (cause) {
			if (cause instanceof errors.JWTExpired) {
				throw new HubError("CREDENTIAL_EXPIRED", "the credential has expired", { cause });
			}
			throw invalid(cause);
		}
	}

	/**
	 * What a token of this key claims, unverified: for a token that the hub wrote to its own folder. undefined where it is
	 * none of this key.
	 */
	peek(token: string): TokenClaims | undefined {
		if (!this.#mayBeOurs(token)) return undefined;
		try {
			return readClaims(JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString("utf8")));
		} catch {
			return undefined;
		}
	}

	#mayBeOurs(token: string): boolean {
		return token.length <= MAX_TOKEN_LENGTH && token.startsWith(this.#start) && COMPACT_FORM.test(token);
	}
}

/** Loading it takes 40 ms and more, and a hub that starts anew needs no signature before its first call. */
function jose() {
	return import("jose");
}

function headerFor(key: SigningKey) {
	return { alg: ALGORITHM, typ: "JWT", kid: key.id };
}

function readClaims(payload: { sub?: unknown; jti?: unknown; iat?: unknown; exp?: unknown }): TokenClaims {
	const { sub, jti, iat, exp } = payload;
	if (typeof sub !== "string" || typeof jti !== "string" || typeof iat !== "number" || typeof exp !== "number") {
		throw new Error("a claim is missing or of another type");
	}
	const colon = sub.indexOf(":");
	const kind = sub.slice(0, colon);
	if (kind !== "plugin" && kind !== "operator") throw new Error("the subject is of no known kind");
	const id = parsePluginId(sub.slice(colon + 1), "sub");
	return { principal: { kind, id }, credentialId: jti, issuedAt: iat * 1000, expiresAt: exp * 1000 };
}

function invalid(cause?: unknown): HubError {
	return new HubError("CREDENTIAL_INVALID", "the credential is not valid", { cause });
}
