import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { HubError } from "../../src/hub-error.ts";
import type { Action } from "../../src/security/actions.ts";
import type { Caller } from "../../src/security/caller.ts";
import { keys } from "../../src/state/key-layout.ts";
import { parsePattern } from "../../src/subjects/pattern.ts";
import { SequentialIds } from "../harness/fake-clock.ts";
import { OPERATOR_BY, openTestSecurity, type TestSecurity } from "../harness/open-test-security.ts";

const READ: Action = { kind: "subscribe", patterns: [parsePattern("a.*", "patterns")] };
const HOUR = 3_600_000;

/** A stream as a service would hold it. */
class Stream {
	rechecks = 0;
	readonly endings: HubError[] = [];
	readonly #caller: Caller;
	readonly #registered: Disposable;

	constructor(caller: Caller) {
		this.#caller = caller;
		this.#registered = security.openStreams.open(caller, {
			recheck: () => {
				this.rechecks++;
				security.guard.recheck(this.#caller, READ);
			},
			revoke: (error) => this.endings.push(error),
		});
	}

	get reasons(): string[] {
		return this.endings.map((error) => error.reason);
	}

	close(): void {
		this.#registered[Symbol.dispose]();
	}
}

let security: TestSecurity;
let caller: Caller;
beforeEach(async () => {
	security = await openTestSecurity({ maxStreamsPerPrincipal: 3 });
	await security.grant("a", { subscribe: ["a.**"] });
	await security.grant("b", { subscribe: ["a.**"] });
	caller = await security.caller("a");
});
afterEach(async () => {
	await security[Symbol.asyncDispose]();
	expect(security.openStreams.size).toBe(0);
	expect(security.clock.pendingTimers).toBe(0);
});

async function write(key: string, value?: Uint8Array): Promise<void> {
	const { kv } = security.state;
	await kv.commit({
		id: `${key} ${kv.revision}`,
		writes: [value === undefined ? { key, delete: true } : { key, value }],
	});
	await security.clock.advance(0);
}

describe("an open stream", () => {
	test("ends when its grant goes, and no other stream is even looked at", async () => {
		const mine = new Stream(caller);
		const other = new Stream(await security.caller("b"));
		await security.grant("a", { subscribe: ["a.*", "b"] });
		expect([mine.reasons, mine.rechecks]).toEqual([[], 2]);
		await security.grant("a", { subscribe: ["a.b"] });
		expect(mine.reasons).toEqual(["PERMISSION_REVOKED"]);
		expect(mine.endings[0]?.message).toContain("a.*");
		expect([other.reasons, other.rechecks]).toEqual([[], 1]);
		expect(security.openStreams.size).toBe(1);
		const denials = await security.recorded("denials");
		expect(denials).toMatchObject([{ event: "stream_revoked", target: "plugin:a", reason: "permission_revoked" }]);
		other.close();
	});

	test("ends when its own credential is revoked, and those of another credential go on", async () => {
		const again = await security.caller("a");
		const [mine, others] = [new Stream(caller), new Stream(again)];
		if (caller.kind === "anonymous") throw new Error("unreachable");
		await security.credentials.revoke(caller.credentialId, "", OPERATOR_BY);
		expect(mine.reasons).toEqual(["CREDENTIAL_REVOKED"]);
		expect(others.reasons).toEqual([]);
		await security.credentials.revokeAll({ kind: "plugin", id: "a" }, "", OPERATOR_BY);
		expect(others.reasons).toEqual(["CREDENTIAL_REVOKED"]);
	});

	test("ends when the plugin is disabled", async () => {
		const mine = new Stream(caller);
		await write(keys.disabled("a"), new Uint8Array(1));
		expect(mine.reasons).toEqual(["PLUGIN_DISABLED"]);
		expect(() => new Stream(caller)).toThrow(HubError);
	});

	test("ends when the registration that it belongs to is gone, even if it is back at once", async () => {
		await write(keys.registration("a"), new Uint8Array(1));
		const first = new Stream(caller);
		await write(keys.registration("a"), new Uint8Array(2));
		expect(first.reasons).toEqual([]);
		await write(keys.registration("a"));
		expect(first.reasons).toEqual(["PERMISSION_REVOKED"]);
		await write(keys.registration("a"), new Uint8Array(1));
		const second = new Stream(caller);
		const { kv } = security.state;
		await Promise.all([
			kv.commit({ id: "gone", writes: [{ key: keys.registration("a"), delete: true }] }),
			kv.commit({ id: "back", writes: [{ key: keys.registration("a"), value: new Uint8Array(1) }] }),
		]);
		await security.clock.advance(0);
		expect(second.reasons).toEqual(["PERMISSION_REVOKED"]);
	});

	test("ends when its credential expires", async () => {
		const longer = await security.credentials.issue(
			{ principal: { kind: "plugin", id: "b" }, lifetimeMs: 40 * 24 * HOUR },
			OPERATOR_BY,
		);
		const long = new Stream({ kind: "plugin", id: "b", ...longer });
		const short = new Stream(caller);
		await security.clock.advance(HOUR - 1);
		expect(short.reasons).toEqual([]);
		await security.clock.advance(1);
		expect(short.reasons).toEqual(["CREDENTIAL_EXPIRED"]);
		expect(long.reasons).toEqual([]);
		expect(security.clock.pendingTimers).toBe(1);
		long.close();
		expect(security.clock.pendingTimers).toBe(0);
	});

	test("ends within a minute when the clock of the machine steps past its credential's end", async () => {
		const mine = new Stream(caller);
		security.clock.stepWall(2 * HOUR);
		await security.clock.advance(60_000);
		expect(mine.reasons).toEqual(["CREDENTIAL_EXPIRED"]);
	});

	test("is told nothing once it is closed", async () => {
		const mine = new Stream(caller);
		mine.close();
		mine.close();
		await security.grant("a", {});
		expect([mine.reasons, mine.rechecks]).toEqual([[], 1]);
		expect(security.openStreams.size).toBe(0);
	});
});

describe("opening", () => {
	test("is refused where the policy changed since the call began", async () => {
		await security.grant("a", {});
		expect(() => new Stream(caller)).toThrow(expect.objectContaining({ reason: "PERMISSION_REVOKED" }));
		expect(security.openStreams.size).toBe(0);
	});

	test("is bounded for each principal", async () => {
		const streams = [new Stream(caller), new Stream(caller), new Stream(caller)];
		expect(() => new Stream(caller)).toThrow(expect.objectContaining({ reason: "LIMIT_EXCEEDED" }));
		const other = new Stream(await security.caller("b"));
		streams.pop()?.close();
		streams.push(new Stream(caller));
		for (const stream of [...streams, other]) stream.close();
		expect(security.openStreams.size).toBe(0);
	});
});

test("a change made by another hub on the same state ends streams and counts for calls", async () => {
	const { state, clock } = security;
	await using otherHub = await openTestSecurity({ state, clock, ids: new SequentialIds("other-") });
	const mine = new Stream(caller);
	await otherHub.grant("a", {});
	await clock.advance(0);
	expect(mine.reasons).toEqual(["PERMISSION_REVOKED"]);
	expect(() => security.guard.check(caller, READ)).toThrow(
		expect.objectContaining({ reason: "INSUFFICIENT_PERMISSIONS" }),
	);
});

test("a call that waits takes no place among the streams, and ends with its right", async () => {
	const streams = [new Stream(caller), new Stream(caller), new Stream(caller)];
	const endings: string[] = [];
	const calls = Array.from({ length: 5 }, () =>
		security.openStreams.watch(caller, ({ reason }) => endings.push(reason)),
	);
	expect(() => new Stream(caller)).toThrow(expect.objectContaining({ reason: "LIMIT_EXCEEDED" }));
	calls.shift()![Symbol.dispose]();
	await write(keys.disabled("a"), Buffer.from("{}"));
	expect(endings).toEqual(Array.from({ length: 4 }, () => "PLUGIN_DISABLED"));
	for (const stream of streams) stream.close();
});
