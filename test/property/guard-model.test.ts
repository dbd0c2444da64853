import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { PermissionsSchema, StoreGrantSchema, TrustLevel } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import type { Action } from "../../src/security/actions.ts";
import { Grants } from "../../src/security/grants.ts";
import { Guard } from "../../src/security/guard.ts";
import type { PluginPolicy } from "../../src/security/policy-view.ts";
import { parsePattern } from "../../src/subjects/pattern.ts";
import { parseSubject } from "../../src/subjects/subject.ts";

interface Plugin {
	readonly sendTo: string[];
	readonly receiveFrom: string[];
	readonly emit: string[];
	readonly subscribe: string[];
	readonly stores: { store: string; read: boolean; write: boolean; create: boolean; requiresTrust: boolean }[];
	readonly trust: TrustLevel;
	readonly disabled: boolean;
}

const IDS = ["a", "b", "c"] as const;
const TOKENS = ["x", "y"] as const;
const id = fc.constantFrom(...IDS);
const idList = fc.array(fc.constantFrom(...IDS, "*"), { maxLength: 2 });
const type = fc.array(fc.constantFrom(...TOKENS), { minLength: 1, maxLength: 3 }).map((tokens) => tokens.join("."));
const pattern = fc
	.tuple(fc.array(fc.constantFrom(...TOKENS, "*"), { maxLength: 3 }), fc.boolean())
	.filter(([tokens, open]) => open || tokens.length > 0)
	.map(([tokens, open]) => [...tokens, ...(open ? ["**"] : [])].join("."));
const patterns = fc.array(pattern, { maxLength: 3 });
const plugin: fc.Arbitrary<Plugin> = fc.record({
	sendTo: idList,
	receiveFrom: idList,
	emit: patterns,
	subscribe: patterns,
	stores: fc.array(
		fc.record({
			store: fc.constantFrom("s", "t", "*"),
			read: fc.boolean(),
			write: fc.boolean(),
			create: fc.boolean(),
			requiresTrust: fc.boolean(),
		}),
		{ maxLength: 3 },
	),
	trust: fc.constantFrom(TrustLevel.UNTRUSTED, TrustLevel.BASIC, TrustLevel.TRUSTED, TrustLevel.VERIFIED),
	disabled: fc.boolean(),
});
type Asked =
	| { kind: "send"; recipient: string; bytes: number }
	| { kind: "emit"; type: string; bytes: number }
	| { kind: "subscribe"; pattern: string }
	| { kind: "store"; store: string; access: "read" | "write" | "create" };
const bytes = fc.constantFrom(1, 1024 * 1024 + 1);
const asked: fc.Arbitrary<Asked> = fc.oneof(
	fc.record({ kind: fc.constant("send" as const), recipient: id, bytes }),
	fc.record({ kind: fc.constant("emit" as const), type, bytes }),
	fc.record({ kind: fc.constant("subscribe" as const), pattern }),
	fc.record({
		kind: fc.constant("store" as const),
		store: fc.constantFrom("s", "t"),
		access: fc.constantFrom("read" as const, "write" as const, "create" as const),
	}),
);

/** Every subject of one to five tokens: enough to tell any two of the patterns above apart. */
const UNIVERSE = [1, 2, 3, 4, 5].flatMap((length) => words(length, ["x", "y", "z"]));

function words(length: number, letters: readonly string[]): string[] {
	if (length === 1) return [...letters];
	return words(length - 1, letters).flatMap((word) => letters.map((letter) => `${word}.${letter}`));
}

function matches(pattern: string, subject: string): boolean {
	const parts = pattern.split(".").map((token) => (token === "*" ? "[^.]+" : token));
	const open = parts.at(-1) === "**";
	if (open) parts.pop();
	const fixed = parts.join("\\.");
	const source = open ? (fixed === "" ? ".+" : `${fixed}(\\..+)?`) : fixed;
	return new RegExp(`^${source}$`).test(subject);
}

/** What the contract says, written as plainly as can be. */
function expectedReason(own: Plugin, plugins: Record<string, Plugin>, caller: string, ask: Asked): string | undefined {
	if (own.disabled) return "PLUGIN_DISABLED";
	const has = (list: string[], wanted: string) => list.includes("*") || list.includes(wanted);
	switch (ask.kind) {
		case "send": {
			const recipient = plugins[ask.recipient]!;
			if (!has(own.sendTo, ask.recipient)) return "NO_SEND_PERMISSION";
			if (own.trust < TrustLevel.BASIC && recipient.trust >= TrustLevel.TRUSTED) return "TRUST_LEVEL_MISMATCH";
			if (ask.bytes > 1024 * 1024) return "INVALID_CONTENT";
			return has(recipient.receiveFrom, caller) ? undefined : "RECIPIENT_CANNOT_RECEIVE";
		}
		case "emit":
			if (!own.emit.some((grant) => matches(grant, ask.type))) return "INSUFFICIENT_PERMISSIONS";
			return ask.bytes > 1024 * 1024 ? "INVALID_CONTENT" : undefined;
		case "subscribe": {
			const wanted = UNIVERSE.filter((subject) => matches(ask.pattern, subject));
			const covered = own.subscribe.some((grant) => wanted.every((subject) => matches(grant, subject)));
			return covered ? undefined : "INSUFFICIENT_PERMISSIONS";
		}
		case "store": {
			const given = own.stores.filter(
				(grant) => (grant.store === "*" || grant.store === ask.store) && grant[ask.access],
			);
			if (given.length === 0) return "INSUFFICIENT_PERMISSIONS";
			if (given.some((grant) => !grant.requiresTrust) || own.trust >= TrustLevel.TRUSTED) return undefined;
			return "INSUFFICIENT_TRUST_LEVEL";
		}
	}
}

function policyOf(plugin: Plugin): PluginPolicy {
	const stores = plugin.stores.map((grant) => create(StoreGrantSchema, grant));
	const { sendTo, receiveFrom, emit, subscribe, trust, disabled } = plugin;
	const permissions = create(PermissionsSchema, { sendTo, receiveFrom, emit, subscribe, stores });
	return { grants: new Grants(permissions), trust, disabled };
}

function actionOf(ask: Asked): Action {
	switch (ask.kind) {
		case "emit":
			return { kind: "emit", subject: parseSubject(ask.type, "type") };
		case "subscribe":
			return { kind: "subscribe", patterns: [parsePattern(ask.pattern, "pattern")] };
		default:
			return ask;
	}
}

test("the guard decides as the model does, and the same the second time", () => {
	fc.assert(
		fc.property(
			fc.record({ a: plugin, b: plugin, c: plugin }),
			fc.array(fc.tuple(id, asked), { minLength: 1, maxLength: 12 }),
			(plugins, asks) => {
				const policies = new Map(Object.entries(plugins).map(([name, plugin]) => [name, policyOf(plugin)]));
				const recorded: string[] = [];
				const guard = new Guard({
					policy: { plugin: (name) => policies.get(name)! },
					audit: { record: (entry) => recorded.push(entry.reason ?? "") },
				});
				const denied: string[] = [];
				for (const [name, ask] of [...asks, ...asks]) {
					const caller = { kind: "plugin", id: name, credentialId: "c", expiresAt: undefined } as const;
					const content = "bytes" in ask ? { bytes: ask.bytes } : undefined;
					const expected = expectedReason(plugins[name], plugins, name, ask);
					let reason: string | undefined;
					try {
						guard.check(caller, actionOf(ask), content);
					} catch (error) {
						reason = (error as { reason: string }).reason;
						denied.push(reason.toLowerCase());
					}
					expect(reason).toBe(expected);
					expect(guard.refusal(caller, actionOf(ask), content)?.error.reason).toBe(expected);
				}
				expect(recorded).toEqual(denied);
			},
		),
		{ numRuns: 400 },
	);
});
