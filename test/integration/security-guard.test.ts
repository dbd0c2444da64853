import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { TrustLevel } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import { HubError } from "../../src/hub-error.ts";
import type { Action } from "../../src/security/actions.ts";
import { ANONYMOUS, type Caller } from "../../src/security/caller.ts";
import type { ContentFacts } from "../../src/security/content-rule.ts";
import { parsePattern } from "../../src/subjects/pattern.ts";
import { parseSubject } from "../../src/subjects/subject.ts";
import { openTestSecurity, type TestSecurity } from "../harness/open-test-security.ts";

const GOOD: ContentFacts = { bytes: 2, json: "{}", attributes: {} };
const TOO_LARGE: ContentFacts = { bytes: 1024 * 1024 + 1 };

let limited = false;
let security: TestSecurity;
beforeEach(async () => {
	limited = false;
	security = await openTestSecurity({
		rate: () => (limited ? new HubError("RATE_LIMIT_EXCEEDED", "too fast") : undefined),
	});
});
afterEach(async () => {
	await security[Symbol.asyncDispose]();
	expect(security.clock.pendingTimers).toBe(0);
});

function plugin(id: string): Caller {
	return { kind: "plugin", id, credentialId: "c", expiresAt: undefined };
}

function send(recipient: string): Action {
	return { kind: "send", recipient };
}

function emit(type: string): Action {
	return { kind: "emit", subject: parseSubject(type, "type") };
}

function reasonOf(run: () => void): string | undefined {
	try {
		run();
		return undefined;
	} catch (error) {
		if (!(error instanceof HubError)) throw error;
		return error.reason;
	}
}

describe("a message is refused for the first rule that it breaks", () => {
	// Each row repairs what the row before was refused for, so that the order is what decides.
	const steps: readonly { readonly repair: () => unknown; readonly reason: string | undefined }[] = [
		{ repair: () => {}, reason: "NO_SEND_PERMISSION" },
		{ repair: () => security.grant("a", { sendTo: ["b"] }), reason: "TRUST_LEVEL_MISMATCH" },
		{ repair: () => security.trustAs("a", TrustLevel.BASIC), reason: "RATE_LIMIT_EXCEEDED" },
		{
			repair: () => {
				limited = false;
			},
			reason: "INVALID_CONTENT",
		},
	];

	test("no_send_permission, trust_level_mismatch, rate_limit_exceeded, invalid_content, recipient_cannot_receive", async () => {
		limited = true;
		await security.trustAs("b", TrustLevel.TRUSTED);
		for (const { repair, reason } of steps) {
			await repair();
			expect(reasonOf(() => security.guard.check(plugin("a"), send("b"), TOO_LARGE, "req-9"))).toBe(reason);
		}
		expect(reasonOf(() => security.guard.check(plugin("a"), send("b"), GOOD))).toBe("RECIPIENT_CANNOT_RECEIVE");
		await security.grant("b", { receiveFrom: ["a"] });
		expect(reasonOf(() => security.guard.check(plugin("a"), send("b"), GOOD))).toBeUndefined();

		const denials = await security.recorded("denials");
		expect(denials.map((record) => record.reason)).toEqual([
			"no_send_permission",
			"trust_level_mismatch",
			"rate_limit_exceeded",
			"invalid_content",
			"recipient_cannot_receive",
		]);
		for (const record of denials) {
			expect(record).toMatchObject({ event: "message_denied", actor: "plugin:a", target: "plugin:b" });
			expect(record.time).toBe(security.clock.now());
		}
		expect(denials[0]?.requestId).toBe("req-9");
		expect(new Set(denials.map((record) => record.id)).size).toBe(5);
	});

	test("a sender below BASIC may send to one that is BASIC, and one that is BASIC to anyone", async () => {
		await security.grant("low", { sendTo: ["*"] });
		await security.grant("high", { receiveFrom: ["*"] });
		for (const [sender, recipient, reason] of [
			[TrustLevel.UNTRUSTED, TrustLevel.UNTRUSTED, undefined],
			[TrustLevel.UNTRUSTED, TrustLevel.BASIC, undefined],
			[TrustLevel.UNTRUSTED, TrustLevel.TRUSTED, "TRUST_LEVEL_MISMATCH"],
			[TrustLevel.UNTRUSTED, TrustLevel.VERIFIED, "TRUST_LEVEL_MISMATCH"],
			[TrustLevel.BASIC, TrustLevel.VERIFIED, undefined],
		] as const) {
			await security.trustAs("low", sender);
			await security.trustAs("high", recipient);
			expect(reasonOf(() => security.guard.check(plugin("low"), send("high"), GOOD))).toBe(reason);
		}
	});

	test("whoever may send to an unknown plugin is left to the router, whoever may not learns nothing", async () => {
		const action: Action = { kind: "send", recipient: "nobody", recipientExists: false };
		expect(reasonOf(() => security.guard.check(plugin("a"), action, GOOD))).toBe("NO_SEND_PERMISSION");
		await security.grant("a", { sendTo: ["*"] });
		expect(reasonOf(() => security.guard.check(plugin("a"), action, GOOD))).toBeUndefined();
	});

	test("a message to a capability needs the grant on the capability instead of the one on the plugin", async () => {
		await security.grant("b", { receiveFrom: ["*"] });
		const action: Action = { kind: "send", recipient: "b", capability: "weather.forecast" };
		await security.grant("a", { sendTo: ["*"], capabilities: ["news.*"] });
		expect(reasonOf(() => security.guard.check(plugin("a"), action, GOOD))).toBe("NO_SEND_PERMISSION");
		await security.grant("a", { capabilities: ["weather:*"] });
		expect(reasonOf(() => security.guard.check(plugin("a"), action, GOOD))).toBeUndefined();
	});
});

describe("an event", () => {
	test("is refused in order: reserved type, grant, rate, content", async () => {
		await security.grant("a", { emit: ["plugin.*", "ok.**"] });
		limited = true;
		expect(reasonOf(() => security.guard.check(plugin("a"), emit("plugin.online"), TOO_LARGE))).toBe(
			"RESERVED_EVENT_TYPE",
		);
		expect(reasonOf(() => security.guard.check(plugin("a"), emit("other"), TOO_LARGE))).toBe(
			"INSUFFICIENT_PERMISSIONS",
		);
		expect(reasonOf(() => security.guard.check(plugin("a"), emit("ok"), TOO_LARGE))).toBe("RATE_LIMIT_EXCEEDED");
		limited = false;
		expect(reasonOf(() => security.guard.check(plugin("a"), emit("ok"), TOO_LARGE))).toBe("INVALID_CONTENT");
		expect(reasonOf(() => security.guard.check(plugin("a"), emit("ok:then"), GOOD))).toBeUndefined();
		const denials = await security.recorded("denials");
		expect(denials.map(({ event, target, reason }) => [event, target, reason])).toEqual([
			["event_denied", "event:plugin.online", "reserved_event_type"],
			["event_denied", "event:other", "insufficient_permissions"],
			["event_denied", "event:ok", "rate_limit_exceeded"],
			["event_denied", "event:ok", "invalid_content"],
		]);
	});

	test.each(["subscribe", "replay"] as const)("to %s needs a grant that covers every pattern", async (kind) => {
		await security.grant("a", { [kind]: ["a.b", "n.*"] });
		const asked = (...patterns: string[]) => {
			const action = { kind, patterns: patterns.map((pattern) => parsePattern(pattern, "patterns")) };
			return reasonOf(() => security.guard.check(plugin("a"), action));
		};
		expect(asked("a.b", "n:x")).toBeUndefined();
		expect(asked("n.*")).toBeUndefined();
		expect(asked("a.b", "a.*")).toBe("INSUFFICIENT_PERMISSIONS");
		expect(asked("n.**")).toBe("INSUFFICIENT_PERMISSIONS");
		expect(asked("**")).toBe("INSUFFICIENT_PERMISSIONS");
	});

	test("may be read by operators and by nobody without a credential", () => {
		const operator: Caller = { kind: "operator", id: "root", credentialId: "c", expiresAt: undefined };
		const read: Action = { kind: "subscribe", patterns: [parsePattern("**", "patterns")] };
		expect(reasonOf(() => security.guard.check(operator, read))).toBeUndefined();
		expect(reasonOf(() => security.guard.check(operator, emit("x"), GOOD))).toBe("CALLER_NOT_ALLOWED");
		expect(reasonOf(() => security.guard.check(ANONYMOUS, read))).toBe("CREDENTIAL_MISSING");
	});

	test("type that was admitted is refused as soon as the grant is gone", async () => {
		await security.grant("a", { emit: ["a.**"] });
		const subject = parseSubject("a.b", "type");
		expect(security.guard.mayEmit(plugin("a"), subject)).toBe(true);
		await security.grant("a", { emit: ["b"] });
		expect(security.guard.mayEmit(plugin("a"), subject)).toBe(false);
		await security.grant("a", { emit: ["a.b"] });
		expect(security.guard.mayEmit(plugin("a"), subject)).toBe(true);
	});
});

describe("stores", () => {
	test("data_access_denied says whether a grant or trust is missing", async () => {
		await security.trustAs("a", TrustLevel.TRUSTED);
		await security.grant("a", {
			stores: [
				{
					$typeName: "qirvo.hub.v1.StoreGrant",
					store: "notes",
					read: true,
					write: false,
					create: false,
					requiresTrust: false,
				},
				{
					$typeName: "qirvo.hub.v1.StoreGrant",
					store: "vault",
					read: true,
					write: true,
					create: false,
					requiresTrust: true,
				},
			],
		});
		const access = (store: string, access: "read" | "write" | "create") =>
			reasonOf(() => security.guard.check(plugin("a"), { kind: "store", store, access }));
		expect(access("notes", "read")).toBeUndefined();
		expect(access("notes", "write")).toBe("INSUFFICIENT_PERMISSIONS");
		expect(access("vault", "write")).toBeUndefined();
		await security.trustAs("a", TrustLevel.BASIC);
		expect(access("vault", "write")).toBe("INSUFFICIENT_TRUST_LEVEL");
		expect(access("vault", "create")).toBe("INSUFFICIENT_PERMISSIONS");
		const denials = await security.recorded("denials");
		expect(denials.map(({ event, target, reason }) => [event, target, reason])).toEqual([
			["data_access_denied", "store:notes", "insufficient_permissions"],
			["data_access_denied", "store:vault", "insufficient_trust_level"],
			["data_access_denied", "store:vault", "insufficient_permissions"],
		]);
	});
});

describe("content", () => {
	const nested = (depth: number) => "[".repeat(depth) + "]".repeat(depth);
	const many = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, index) => [`k${index}`, "v"]));
	test.each<[string, ContentFacts, string | undefined]>([
		["at the size limit", { bytes: 1024 * 1024 }, undefined],
		["one byte over", TOO_LARGE, "payload"],
		["64 levels", { bytes: 128, json: nested(64) }, undefined],
		["65 levels", { bytes: 130, json: nested(65) }, "payload.json"],
		["65 levels as bytes", { bytes: 130, json: Buffer.from(nested(65)) }, "payload.json"],
		["broken structure", { bytes: 2, json: '{"a":[}' }, "payload.json"],
		["64 attributes", { bytes: 9, attributes: many(64) }, undefined],
		["65 attributes", { bytes: 9, attributes: many(65) }, "attributes"],
		["an empty key", { bytes: 9, attributes: { "": "v" } }, "attributes"],
		["a key of 128 bytes", { bytes: 9, attributes: { ["é".repeat(64)]: "v" } }, undefined],
		["a key of 129 bytes", { bytes: 9, attributes: { [`${"é".repeat(64)}a`]: "v" } }, "attributes"],
		["a value of 4 KiB", { bytes: 9, attributes: { k: "v".repeat(4096) } }, undefined],
		["a value over 4 KiB", { bytes: 9, attributes: { k: "é".repeat(2049) } }, 'attributes["k"]'],
		["traceparent", { bytes: 9, attributes: { traceparent: "00-ab" } }, undefined],
		["a content type of 129 bytes", { bytes: 9, contentType: "a".repeat(129) }, "payload.content_type"],
		["a schema of 513 bytes", { bytes: 9, schema: "a".repeat(513) }, "payload.schema"],
		["legitimate text", { bytes: 9, json: '{"text":"conditions=rain <script>"}' }, undefined],
	])("%s", async (_, content, field) => {
		await security.grant("a", { emit: ["x"] });
		const refusal = security.guard.refusal(plugin("a"), emit("x"), content);
		expect(refusal?.error.metadata.field).toBe(field);
		expect(refusal?.error.reason).toBe(field === undefined ? undefined : "INVALID_CONTENT");
	});

	test("is asked of the configured policy only when size and structure are in order", async () => {
		const asked: ContentFacts[] = [];
		await using other = await openTestSecurity({
			contentPolicy: (content) => {
				asked.push(content);
				return new HubError("INVALID_CONTENT", "not here");
			},
		});
		await other.grant("a", { emit: ["x"] });
		other.guard.refusal(plugin("a"), emit("x"), TOO_LARGE);
		expect(asked).toEqual([]);
		expect(other.guard.refusal(plugin("a"), emit("x"), GOOD)?.error.message).toBe("not here");
	});
});
