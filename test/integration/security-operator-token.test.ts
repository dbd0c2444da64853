import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { SequentialIds } from "../harness/fake-clock.ts";
import { openTestSecurity, type TestSecurity } from "../harness/open-test-security.ts";

let directory: string;
let security: TestSecurity;
beforeEach(async () => {
	directory = join(await mkdtemp(join(tmpdir(), "hub-token-")), "data");
	security = await openTestSecurity();
});
afterEach(async () => {
	await security[Symbol.asyncDispose]();
	await rm(join(directory, ".."), { recursive: true });
});

async function ensure(newToken = false): Promise<string> {
	const path = await security.ensureOperatorToken({ directory, newToken });
	expect(path).toBe(join(directory, "operator.token"));
	expect((await stat(path)).mode & 0o777).toBe(0o600);
	expect(await readdir(directory)).toEqual(["operator.token"]);
	return (await readFile(path, "utf8")).trim();
}

test("the first start writes a token of an operator into a folder of its own", async () => {
	const token = await ensure();
	expect((await stat(directory)).mode & 0o777).toBe(0o700);
	expect(await security.authenticator.authenticate(`Bearer ${token}`)).toMatchObject({ kind: "operator", id: "root" });
	const [record] = await security.recorded("changes");
	expect(record).toMatchObject({ event: "credential_issued", actor: "hub", target: "operator:root" });
});

test("a token that counts is kept, and hidden from others again", async () => {
	const token = await ensure();
	await chmod(join(directory, "operator.token"), 0o644);
	expect(await ensure()).toBe(token);
});

test.each<[string, () => Promise<unknown>]>([
	["missing", () => rm(join(directory, "operator.token"))],
	["garbage", () => writeFile(join(directory, "operator.token"), "garbage")],
	["expired", () => security.clock.advance(367 * 86_400_000)],
	["revoked", () => security.credentials.revokeAll({ kind: "operator", id: "root" }, "", { actor: "operator:root" })],
	[
		"of another state",
		async () => {
			await security[Symbol.asyncDispose]();
			security = await openTestSecurity({ ids: new SequentialIds("other-") });
		},
	],
])("a token that is %s is replaced", async (_, spoil) => {
	const before = await ensure();
	await spoil();
	const after = await ensure();
	expect(after).not.toBe(before);
	expect(await security.authenticator.authenticate(`Bearer ${after}`)).toMatchObject({ kind: "operator" });
});

test("a new token on demand revokes the one before", async () => {
	const before = await ensure();
	await security.authenticator.authenticate(`Bearer ${before}`);
	const after = await ensure(true);
	expect(await security.authenticator.authenticate(`Bearer ${after}`)).toMatchObject({ kind: "operator" });
	await expect(async () => security.authenticator.authenticate(`Bearer ${before}`)).rejects.toMatchObject({
		reason: "CREDENTIAL_REVOKED",
	});
});

test("hubs that lose their folder at every start do not run out of credentials", async () => {
	for (let start = 0; start < 40; start++) {
		await ensure();
		await rm(join(directory, "operator.token"));
	}
	expect(await security.authenticator.authenticate(`Bearer ${await ensure()}`)).toMatchObject({ kind: "operator" });
});
