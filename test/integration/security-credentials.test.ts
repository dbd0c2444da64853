import { generateKeyPairSync } from "node:crypto";
import { SignJWT } from "jose";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { HubError } from "../../src/hub-error.ts";
import { ANONYMOUS, type Caller } from "../../src/security/caller.ts";
import { MAX_RECORDS_PER_PRINCIPAL } from "../../src/security/credential-records.ts";
import { MAX_CREDENTIALS_PER_PRINCIPAL } from "../../src/security/credentials.ts";
import { keys } from "../../src/state/key-layout.ts";
import { SequentialIds } from "../harness/fake-clock.ts";
import { OPERATOR_BY, openTestSecurity, type TestSecurity } from "../harness/open-test-security.ts";

const HOUR = 3_600_000;
const PLUGIN = { kind: "plugin", id: "weather" } as const;

let security: TestSecurity;
beforeEach(async () => {
	security = await openTestSecurity();
});
afterEach(async () => {
	await security[Symbol.asyncDispose]();
	expect(security.clock.pendingTimers).toBe(0);
});

async function issue(requestId?: string, lifetimeMs = HOUR) {
	const request = requestId === undefined ? undefined : { requestId, digest: Buffer.from(String(lifetimeMs)) };
	return security.credentials.issue({ principal: PLUGIN, lifetimeMs, request }, OPERATOR_BY);
}

async function authenticate(authorization: string | undefined): Promise<Caller | string> {
	try {
		return await security.authenticator.authenticate(authorization);
	} catch (error) {
		if (!(error instanceof HubError)) throw error;
		return error.reason;
	}
}

async function reasonOf(work: Promise<unknown>): Promise<string | undefined> {
	return work.then(
		() => undefined,
		(error: unknown) => {
			if (!(error instanceof HubError)) throw error;
			return error.reason;
		},
	);
}

describe("a token", () => {
	test("makes its bearer a caller, at once when it was verified before", async () => {
		const { token, credentialId, expiresAt } = await issue();
		const caller = await authenticate(`Bearer ${token}`);
		expect(caller).toEqual({ ...PLUGIN, credentialId, expiresAt });
		expect(expiresAt).toBe(security.clock.now() + HOUR);
		expect(security.authenticator.authenticate(`Bearer ${token}`)).toBe(caller);
		expect(await authenticate(undefined)).toBe(ANONYMOUS);
	});

	test("is refused once it is over, remembered or not", async () => {
		const { token } = await issue();
		await authenticate(`Bearer ${token}`);
		await security.clock.advance(HOUR - 1);
		expect(await authenticate(`Bearer ${token}`)).toMatchObject(PLUGIN);
		await security.clock.advance(1);
		expect(await authenticate(`Bearer ${token}`)).toBe("CREDENTIAL_EXPIRED");
		expect(await authenticate(`bearer  ${token}`)).toBe("CREDENTIAL_EXPIRED");
	});

	test("is refused once it is revoked, remembered or not, and others of the plugin are not", async () => {
		const first = await issue();
		const second = await issue();
		await authenticate(`Bearer ${first.token}`);
		await security.credentials.revoke(first.credentialId, "leaked", OPERATOR_BY);
		expect(await authenticate(`Bearer ${first.token}`)).toBe("CREDENTIAL_REVOKED");
		expect(await authenticate(`bearer  ${first.token}`)).toBe("CREDENTIAL_REVOKED");
		expect(await authenticate(`Bearer ${second.token}`)).toMatchObject(PLUGIN);
		await security.credentials.revokeAll(PLUGIN, "", OPERATOR_BY);
		expect(await authenticate(`Bearer ${second.token}`)).toBe("CREDENTIAL_REVOKED");
		expect(await reasonOf(security.credentials.revokeAll(PLUGIN, "", OPERATOR_BY))).toBe("CREDENTIAL_NOT_FOUND");
		expect(await reasonOf(security.credentials.revoke(first.credentialId, "", OPERATOR_BY))).toBe(
			"CREDENTIAL_NOT_FOUND",
		);
	});

	test("of a disabled plugin is refused until it is enabled", async () => {
		const { token } = await issue();
		await authenticate(`Bearer ${token}`);
		const { kv } = security.state;
		await kv.commit({ id: "disable", writes: [{ key: keys.disabled("weather"), value: new Uint8Array(1) }] });
		await security.policy.applied(kv.revision);
		expect(await authenticate(`Bearer ${token}`)).toBe("PLUGIN_DISABLED");
		await kv.commit({ id: "enable", writes: [{ key: keys.disabled("weather"), delete: true }] });
		await security.policy.applied(kv.revision);
		expect(await authenticate(`Bearer ${token}`)).toMatchObject(PLUGIN);
	});

	test("of another key, another algorithm or none is refused", async () => {
		const { token } = await issue();
		const [head = "", body = "", signature = ""] = token.split(".");
		const base64 = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
		const { kid } = JSON.parse(Buffer.from(head, "base64url").toString());
		const { privateKey } = generateKeyPairSync("ed25519");
		const forged = await new SignJWT(JSON.parse(Buffer.from(body, "base64url").toString()))
			.setProtectedHeader({ alg: "EdDSA", typ: "JWT", kid })
			.sign(privateKey);
		expect(forged.split(".")[0]).toBe(head);
		const claims = { ...JSON.parse(Buffer.from(body, "base64url").toString()), sub: "operator:root" };
		for (const bad of [
			forged,
			`${head}.${base64(claims)}.${signature}`,
			`${base64({ alg: "none" })}.${body}.`,
			`${base64({ alg: "none", typ: "JWT", kid })}.${body}.${signature}`,
			`${base64({ alg: "HS256", typ: "JWT", kid })}.${body}.${signature}`,
			`${head}.${body}`,
			`${head}.${body}.${signature}.${signature}`,
			`${head}.${body}.${"A".repeat(9000)}`,
			"x".repeat(100_000),
			"",
		]) {
			expect(await authenticate(`Bearer ${bad}`), bad.slice(0, 80)).toBe("CREDENTIAL_INVALID");
		}
		for (const header of [
			"",
			"Bearer",
			token,
			`Basic ${token}`,
			`Bearer ${token} ${token}`,
			"\0",
			"Bearer \u{1f600}",
		]) {
			expect(await authenticate(header), header.slice(0, 80)).toBe("CREDENTIAL_INVALID");
		}
		expect(await authenticate(`Bearer ${token}`)).toMatchObject(PLUGIN);
	});

	test("of one state means nothing to another", async () => {
		const { token } = await issue();
		await using other = await openTestSecurity({ ids: new SequentialIds("other-") });
		await expect(async () => other.authenticator.authenticate(`Bearer ${token}`)).rejects.toMatchObject({
			reason: "CREDENTIAL_INVALID",
		});
	});

	test("still counts after a restart on the same state", async () => {
		const { token } = await issue();
		const { state, clock } = security;
		await security[Symbol.asyncDispose]();
		security = await openTestSecurity({ state, clock, ids: new SequentialIds("again-") });
		expect(await authenticate(`Bearer ${token}`)).toMatchObject(PLUGIN);
	});
});

describe("issuing", () => {
	test("again under the same request id names the first credential without its token", async () => {
		const first = await issue("r1");
		const again = await issue("r1");
		expect(again).toEqual({ ...first, token: "", duplicate: true });
		expect(await reasonOf(issue("r1", 2 * HOUR))).toBe("ID_REUSED");
		const [one, two] = await Promise.all([issue("r2"), issue("r2")]);
		expect(two).toEqual({ ...one, token: "", duplicate: true });
		await security.clock.advance(120_000);
		const later = await issue("r1");
		expect(later.duplicate).toBe(false);
		expect(later.credentialId).not.toBe(first.credentialId);
	});

	test("is bounded for each principal, and makes room as credentials end", async () => {
		for (let count = 0; count < MAX_CREDENTIALS_PER_PRINCIPAL; count++) await issue();
		expect(await reasonOf(issue())).toBe("LIMIT_EXCEEDED");
		await security.credentials.issue({ principal: { kind: "plugin", id: "weather2" }, lifetimeMs: HOUR }, OPERATOR_BY);
		await security.clock.advance(HOUR);
		await issue();
		const prefix = keys.credential("plugin:weather", "");
		const stored = security.state.kv.range({ start: prefix, end: `${prefix}~`, limit: 1000 });
		expect(stored.entries).toHaveLength(1);
	});

	test("and revoking for ever keeps a bounded number of records", async () => {
		for (let count = 0; count < MAX_RECORDS_PER_PRINCIPAL + 20; count++) {
			const { credentialId } = await issue();
			await security.credentials.revoke(credentialId, "", OPERATOR_BY);
		}
		const prefix = keys.credential("plugin:weather", "");
		const stored = security.state.kv.range({ start: prefix, end: `${prefix}~`, limit: 1000 });
		expect(stored.entries).toHaveLength(MAX_RECORDS_PER_PRINCIPAL);
	});

	test("and revoking is recorded by who did it", async () => {
		const { credentialId } = await issue();
		await security.credentials.revoke(credentialId, "leaked", OPERATOR_BY);
		const records = await security.recorded("changes");
		expect(records).toMatchObject([
			{
				event: "credential_issued",
				actor: "operator:root",
				target: "plugin:weather",
				details: { credential_id: credentialId },
				requestId: "req-1",
			},
			{ event: "credential_revoked", actor: "operator:root", target: `credential:${credentialId}`, reason: "leaked" },
		]);
	});
});

describe("a developer's credential", () => {
	test("lets a new plugin do what needs no trust", async () => {
		const token = await security.devCredentials.create("weather");
		const caller = await security.authenticator.authenticate(`Bearer ${token}`);
		expect(caller).toMatchObject(PLUGIN);
		const { value, ineffective } = security.policyAdmin.permissions("weather");
		expect(value).toMatchObject({ emit: ["**"], sendTo: ["*"], intercept: false, network: false, fileSystem: false });
		expect(ineffective).toEqual([]);
	});

	test("that was withdrawn counts no more, and leaves the id free", async () => {
		const token = await security.devCredentials.create("weather");
		await security.devCredentials.withdraw("weather");
		expect(await authenticate(`Bearer ${token}`)).toBe("CREDENTIAL_REVOKED");
		expect(security.policyAdmin.permissions("weather").revision).toBe(0);
		expect(await security.devCredentials.create("weather")).not.toBe(token);
	});

	test("is refused for an id that is taken in any way", async () => {
		await security.devCredentials.create("one");
		expect(await reasonOf(security.devCredentials.create("one"))).toBe("PLUGIN_EXISTS");
		await issue();
		expect(await reasonOf(security.devCredentials.create("weather"))).toBe("PLUGIN_EXISTS");
		await security.grant("granted", {});
		expect(await reasonOf(security.devCredentials.create("granted"))).toBe("PLUGIN_EXISTS");
		await security.state.kv.commit({
			id: "register",
			writes: [{ key: keys.registration("registered"), value: new Uint8Array(1) }],
		});
		expect(await reasonOf(security.devCredentials.create("registered"))).toBe("PLUGIN_EXISTS");
		const both = await Promise.all([1, 2].map(() => reasonOf(security.devCredentials.create("two"))));
		expect(both.sort()).toEqual(["PLUGIN_EXISTS", undefined]);
	});
});
