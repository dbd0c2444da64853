import { chmod, mkdir, open, readFile, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Clock, IdSource } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import { credentialProblem } from "./credential-state.ts";
import type { Credentials } from "./credentials.ts";
import type { PolicyView } from "./policy-view.ts";
import type { Principal, Tokens } from "./token.ts";

const FILE_NAME = "operator.token";

/** Whom the token in the data folder speaks for. */
const OPERATOR: Principal = Object.freeze({ kind: "operator", id: "root" });

const LIFETIME_MS = 366 * 86_400_000;

export interface OperatorTokenOptions {
	/** The data folder. Made, with mode 0700, where it is missing. */
	readonly directory: string;
	/** Replaces the token and revokes every earlier one of this operator. */
	readonly newToken: boolean;
	readonly credentials: Credentials;
	readonly tokens: Tokens;
	readonly policy: PolicyView;
	readonly clock: Clock;
	readonly ids: IdSource;
}

/**
 * Sees to it that `operator.token` in the data folder holds a token that counts, readable by the owner alone, and returns
 * the file's path. A token that is missing, expired, revoked or of another state is replaced.
 */
export async function ensureOperatorToken(options: OperatorTokenOptions): Promise<string> {
	const { directory, newToken, credentials } = options;
	const path = join(directory, FILE_NAME);
	if (!newToken && (await holdsValidToken(path, options))) {
		if (((await stat(path)).mode & 0o777) !== 0o600) await chmod(path, 0o600);
		return path;
	}
	const by = { actor: "hub" };
	if (newToken) await revokeEarlier(credentials);
	const issued = await credentials.issue({ principal: OPERATOR, lifetimeMs: LIFETIME_MS, revokeOldest: true }, by);
	await mkdir(directory, { recursive: true, mode: 0o700 });
	await writeAtomically(path, `${issued.token}\n`, options.ids);
	return path;
}

async function revokeEarlier(credentials: Credentials): Promise<void> {
	try {
		await credentials.revokeAll(OPERATOR, "replaced by a new operator token", { actor: "hub" });
	} catch (error) {
		if (!(error instanceof HubError && error.reason === "CREDENTIAL_NOT_FOUND")) throw error;
	}
}

async function holdsValidToken(path: string, { tokens, policy, clock }: OperatorTokenOptions): Promise<boolean> {
	let text: string;
	try {
		text = await readFile(path, "utf8");
	} catch (error) {
		if (error instanceof Error && "code" in error && error.code === "ENOENT") return false;
		throw error;
	}
	const claims = tokens.peek(text.trim());
	if (claims === undefined || claims.principal.kind !== "operator") return false;
	const record = policy.credential(`operator:${claims.principal.id}`, claims.credentialId);
	return credentialProblem(record, clock.now()) === undefined;
}

/** A crash leaves the old file or the new one, never a part, and the token is at no time readable by others. */
async function writeAtomically(path: string, text: string, ids: IdSource): Promise<void> {
	const temporary = `${path}.${ids.next()}.tmp`;
	try {
		const file = await open(temporary, "wx", 0o600);
		try {
			await file.writeFile(text);
			await file.sync();
		} finally {
			await file.close();
		}
		await rename(temporary, path);
	} catch (error) {
		await rm(temporary, { force: true });
		throw error;
	}
}
