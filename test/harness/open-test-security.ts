import { create } from "@bufbuild/protobuf";
import { type Permissions, PermissionsSchema, type TrustLevel } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import type { IdSource } from "../../src/clock/clock.ts";
import { FirstAnswers } from "../../src/idempotency/first-answers.ts";
import { type AuditRecord, decodeAuditRecord } from "../../src/security/audit-record.ts";
import type { Caller } from "../../src/security/caller.ts";
import { ensureOperatorToken } from "../../src/security/operator-token.ts";
import { openSecurity, type Security, type SecurityRules } from "../../src/server/open-security.ts";
import { Owner } from "../../src/server/owner.ts";
import { openMemoryState } from "../../src/state/memory/open-memory-state.ts";
import type { StateBackend } from "../../src/state/state-backend.ts";
import { FakeClock, SequentialIds } from "./fake-clock.ts";

/** The security subsystem on memory state, with the clock in the test's hand. */
export interface TestSecurity extends Security, AsyncDisposable {
	readonly clock: FakeClock;
	readonly state: StateBackend;
	/** Sets permissions as an operator would. */
	grant(pluginId: string, permissions: Partial<Omit<Permissions, "$typeName">>): Promise<void>;
	trustAs(pluginId: string, level: TrustLevel): Promise<void>;
	/** A plugin's caller with a credential of its own. */
	caller(pluginId: string): Promise<Extract<Caller, { kind: "plugin" }>>;
	ensureOperatorToken(options: { directory: string; newToken: boolean }): Promise<string>;
	/** Everything recorded so far in one of the audit logs, oldest first. */
	recorded(log: "changes" | "denials"): Promise<AuditRecord[]>;
}

export const OPERATOR_BY = Object.freeze({ actor: "operator:root", requestId: "req-1" });

export async function openTestSecurity(
	overrides: SecurityRules & { state?: StateBackend; clock?: FakeClock; ids?: IdSource } = {},
): Promise<TestSecurity> {
	const clock = overrides.clock ?? new FakeClock();
	const ids = overrides.ids ?? new SequentialIds();
	const state = overrides.state ?? openMemoryState({ clock, ids });
	const owner = new Owner();
	const answers = owner.use(new FirstAnswers({ kv: state.kv, clock, ids }));
	const security = await openSecurity({ state, clock, ids, answers, owner, rules: overrides });
	const anyState = { expected: { kind: "any" } as const, validateOnly: false };
	return {
		...security,
		clock,
		state,
		async grant(pluginId, permissions) {
			const message = create(PermissionsSchema, permissions);
			await security.policyAdmin.setPermissions(message, { pluginId, ...anyState }, OPERATOR_BY);
		},
		async trustAs(pluginId, level) {
			await security.policyAdmin.setTrust(level, "", { pluginId, ...anyState }, OPERATOR_BY);
		},
		async caller(id) {
			const principal = { kind: "plugin", id } as const;
			const { credentialId, expiresAt } = await security.credentials.issue(
				{ principal, lifetimeMs: 3_600_000 },
				OPERATOR_BY,
			);
			return { ...principal, credentialId, expiresAt };
		},
		async recorded(name) {
			// Lets the writer of denials take its turn.
			await clock.advance(0);
			const log = await state.log(`audit-${name}`);
			const page = await log.read({ from: { sequence: 1 }, maxRecords: 1000, maxBytes: 1 << 24 });
			return page.records.map((record) => decodeAuditRecord(record.bytes));
		},
		ensureOperatorToken: (where) => ensureOperatorToken({ ...security, ...where, clock, ids }),
		[Symbol.asyncDispose]: () => owner[Symbol.asyncDispose](),
	};
}
