import { createHmac, hkdfSync, timingSafeEqual } from "node:crypto";
import { HubError } from "../hub-error.ts";
import type { Pattern } from "../subjects/pattern.ts";
import type { SigningKey } from "./signing-key.ts";

/** Whose subscription a token is for. */
export interface SubscriptionReader {
	/** As `principalOf` names it. */
	readonly principal: string;
	readonly patterns: readonly Pattern[];
}

/** The first place in the log that a subscription wanted. */
export interface SubscriptionBeginning {
	/** 1 to 32 characters of `[A-Za-z0-9_-]`. */
	readonly epoch: string;
	readonly sequence: number;
}

const MAX_TOKEN_LENGTH = 128;
const SEQUENCE_BYTES = 8;
const SEAL_BYTES = 32;
const EPOCH = /^[A-Za-z0-9_-]{1,32}$/;
/** What the derived key is for; another layout of the token needs another word. */
const KEY_PURPOSE = "qirvo.hub.v1 subscription resume token";

/**
 * Says, without keeping anything, where a principal's subscription to some patterns began: whoever was admitted to what was
 * new then may read on from there. A token is the sequence, a seal over everything it stands for, and the epoch. The key
 * of the seal comes from the hub's signing key, so a token holds on every hub of one state and across restarts. It has no
 * end of its own; whether the principal may subscribe is for the guard to say, each time.
 */
export class ResumeTokens {
	readonly #key: Uint8Array;

	constructor(signingKey: SigningKey) {
		const secret = signingKey.privateKey.export({ type: "pkcs8", format: "der" });
		this.#key = new Uint8Array(hkdfSync("sha256", secret, new Uint8Array(), KEY_PURPOSE, SEAL_BYTES));
	}

	/** At most 128 characters of base64url. */
	seal(reader: SubscriptionReader, beginning: SubscriptionBeginning): string {
		const sequence = Buffer.alloc(SEQUENCE_BYTES);
		sequence.writeBigUInt64BE(BigInt(beginning.sequence));
		return Buffer.concat([sequence, this.#sealOf(reader, beginning), Buffer.from(beginning.epoch)]).toString(
			"base64url",
		);
	}

	/** Where it says that this reader began; undefined where it says nothing about this reader. Throws INVALID_FIELD. */
	open(token: string, reader: SubscriptionReader): SubscriptionBeginning | undefined {
		const bytes = token.length <= MAX_TOKEN_LENGTH ? Buffer.from(token, "base64url") : Buffer.alloc(0);
		const epoch = bytes.toString("latin1", SEQUENCE_BYTES + SEAL_BYTES);
		if (!EPOCH.test(epoch) || bytes.toString("base64url") !== token) {
			throw HubError.field("resume_token", "is not a token from a ready frame");
		}
		const beginning = { epoch, sequence: Number(bytes.readBigUInt64BE(0)) };
		const seal = bytes.subarray(SEQUENCE_BYTES, SEQUENCE_BYTES + SEAL_BYTES);
		return timingSafeEqual(seal, this.#sealOf(reader, beginning)) ? beginning : undefined;
	}

	#sealOf({ principal, patterns }: SubscriptionReader, { epoch, sequence }: SubscriptionBeginning): Buffer {
		const canonical = [...new Set(patterns.map((pattern) => pattern.canonical))].sort();
		const sealed = JSON.stringify([principal, canonical, epoch, sequence]);
		return createHmac("sha256", this.#key).update(sealed).digest();
	}
}
