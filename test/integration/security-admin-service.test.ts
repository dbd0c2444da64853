import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { BadRequestSchema, ErrorInfoSchema, PreconditionFailureSchema } from "#gen/google/rpc/error_details_pb.js";
import { SecurityAdminService, TrustLevel } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import { randomIds, systemClock } from "../../src/clock/system-clock.ts";
import { FirstAnswers } from "../../src/idempotency/first-answers.ts";
import { createSecurityAdminService } from "../../src/rpc/security-admin-service.ts";
import { decodeAuditRecord } from "../../src/security/audit-record.ts";
import { createRpcServer, type RpcServer } from "../../src/server/http2-server.ts";
import { openSecurity, type Security } from "../../src/server/open-security.ts";
import { Owner } from "../../src/server/owner.ts";
import { openMemoryState } from "../../src/state/memory/open-memory-state.ts";
import type { StateBackend } from "../../src/state/state-backend.ts";
import { silentLogger } from "../../src/telemetry/logger.ts";
import { Metrics } from "../../src/telemetry/metrics.ts";

const DAY = 86_400n;

describe.each([true, false])("SecurityAdminService (fast lane: %s)", (fastLane) => {
	const owner = new Owner();
	const sessions: Http2SessionManager[] = [];
	let state: StateBackend;
	let security: Security;
	let server: RpcServer;
	let url: string;
	let admin: ReturnType<typeof clientWith>;

	beforeAll(async () => {
		const [clock, ids] = [systemClock, randomIds];
		state = owner.use(openMemoryState({ clock, ids }));
		const answers = owner.use(new FirstAnswers({ kv: state.kv, clock, ids }));
		security = await openSecurity({ state, clock, ids, answers, owner });
		const { credentials, policyAdmin: policy, authenticator, refusedCalls: refusals } = security;
		server = owner.use(
			createRpcServer({
				services: [createSecurityAdminService({ credentials, policy })],
				authenticator,
				refusals,
				logger: silentLogger,
				metrics: new Metrics(),
				clock,
				ids,
				fastLane,
			}),
		);
		const { port } = await server.listen("127.0.0.1", 0);
		url = `http://127.0.0.1:${port}`;
		const principal = { kind: "operator", id: "root" } as const;
		const { token } = await credentials.issue({ principal, lifetimeMs: 3_600_000 }, { actor: "hub" });
		admin = clientWith(token);
	});
	afterEach(() => expect(server.openCalls).toBe(0));
	afterAll(async () => {
		for (const session of sessions) session.abort();
		await owner[Symbol.asyncDispose]();
	});

	function clientWith(token: string) {
		const sessionManager = new Http2SessionManager(url);
		sessions.push(sessionManager);
		const transport = createGrpcTransport({
			baseUrl: url,
			sessionManager,
			interceptors: [
				(next) => (request) => {
					if (token !== "") request.header.set("authorization", `Bearer ${token}`);
					return next(request);
				},
			],
		});
		return createClient(SecurityAdminService, transport);
	}

	async function failure(work: Promise<unknown>) {
		const error = await work.then(
			() => undefined,
			(error: unknown) => error,
		);
		if (!(error instanceof ConnectError)) throw new Error(`expected a refusal, got ${String(error)}`);
		const [info] = error.findDetails(ErrorInfoSchema);
		const [badRequest] = error.findDetails(BadRequestSchema);
		const [precondition] = error.findDetails(PreconditionFailureSchema);
		return {
			code: error.code,
			reason: info?.reason,
			metadata: info?.metadata,
			field: badRequest?.fieldViolations[0]?.field,
			violation: precondition?.violations[0],
		};
	}

	async function auditOf(log: "changes" | "denials", target: string) {
		const store = await state.log(`audit-${log}`);
		const page = await store.read({ from: { sequence: 1 }, maxRecords: 1000, maxBytes: 1 << 24 });
		return page.records.map(({ bytes }) => decodeAuditRecord(bytes)).filter((record) => record.target === target);
	}

	test("issues a credential that admits its plugin, and revokes it", async () => {
		const issued = await admin.issueCredential({
			principal: { case: "pluginId", value: "p1" },
			lifetime: { seconds: DAY },
		});
		const lasts = Number(issued.expireTime?.seconds) * 1000 - systemClock.now();
		expect(Math.abs(lasts - 86_400_000)).toBeLessThan(5000);
		const plugin = clientWith(issued.token);
		expect(await failure(plugin.getTrustLevel({ pluginId: "p1" }))).toMatchObject({
			code: Code.PermissionDenied,
			reason: "CALLER_NOT_ALLOWED",
		});
		const { credentialId } = issued;
		const revoke = { target: { case: "credentialId", value: credentialId }, reason: "leaked" } as const;
		await admin.revokeCredential({ ...revoke, validateOnly: true });
		expect(await failure(plugin.getTrustLevel({ pluginId: "p1" }))).toMatchObject({ reason: "CALLER_NOT_ALLOWED" });
		await admin.revokeCredential(revoke);
		expect(await failure(plugin.getTrustLevel({ pluginId: "p1" }))).toMatchObject({
			code: Code.Unauthenticated,
			reason: "CREDENTIAL_REVOKED",
		});
		expect(await failure(admin.revokeCredential(revoke))).toMatchObject({
			code: Code.NotFound,
			reason: "CREDENTIAL_NOT_FOUND",
		});
		expect(await auditOf("changes", `credential:${credentialId}`)).toMatchObject([
			{ event: "credential_revoked", actor: "operator:root", reason: "leaked" },
		]);
		await expect
			.poll(() => auditOf("denials", "method:/qirvo.hub.v1.SecurityAdminService/GetTrustLevel"))
			.toMatchObject([
				{ event: "call_denied", actor: "plugin:p1", reason: "caller_not_allowed" },
				{ event: "call_denied", actor: "plugin:p1", reason: "caller_not_allowed" },
				{ event: "authentication_failed", actor: "plugin:p1", reason: "credential_revoked" },
			]);
	});

	test("shows the token of a repeated request once", async () => {
		const request = { principal: { case: "pluginId", value: "p2" }, requestId: "r1" } as const;
		const first = await admin.issueCredential(request);
		expect(await admin.issueCredential(request)).toMatchObject({
			credentialId: first.credentialId,
			token: "",
			expireTime: first.expireTime,
			duplicate: true,
		});
		expect(await failure(admin.issueCredential({ ...request, lifetime: { seconds: DAY } }))).toMatchObject({
			code: Code.Aborted,
			reason: "ID_REUSED",
		});
	});

	test("lets nobody without a credential in", async () => {
		expect(await failure(clientWith("").getPermissions({ pluginId: "p1" }))).toMatchObject({
			code: Code.Unauthenticated,
			reason: "CREDENTIAL_MISSING",
		});
		expect(await failure(clientWith("x.y.z").getPermissions({ pluginId: "p1" }))).toMatchObject({
			code: Code.Unauthenticated,
			reason: "CREDENTIAL_INVALID",
		});
	});

	test("stores permissions under a revision and refuses a stale one", async () => {
		expect(await admin.getPermissions({ pluginId: "p3" })).toMatchObject({ revision: 0n, permissions: { emit: [] } });
		const permissions = { emit: ["a.*"], sendTo: ["*", "other"] };
		const absent = { state: { case: "absent", value: true } } as const;
		const checked = await admin.setPermissions({ pluginId: "p3", permissions, expected: absent, validateOnly: true });
		expect(checked).toMatchObject({ revision: 0n, permissions });
		const set = await admin.setPermissions({ pluginId: "p3", permissions, expected: absent });
		expect(set.revision).toBeGreaterThan(0n);
		expect(await admin.getPermissions({ pluginId: "p3" })).toMatchObject({ revision: set.revision, permissions });
		expect(await failure(admin.setPermissions({ pluginId: "p3", permissions, expected: absent }))).toMatchObject({
			code: Code.Aborted,
			reason: "REVISION_MISMATCH",
			metadata: { revision: String(set.revision) },
		});
		const mine = { state: { case: "revision", value: set.revision } } as const;
		const both = await Promise.allSettled([
			admin.setPermissions({ pluginId: "p3", permissions: { emit: ["x"] }, expected: mine }),
			admin.setPermissions({ pluginId: "p3", permissions: { emit: ["y"] }, expected: mine }),
		]);
		expect(both.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
		const exists = { state: { case: "exists", value: true } } as const;
		expect(await failure(admin.setPermissions({ pluginId: "never", permissions, expected: exists }))).toMatchObject({
			reason: "REVISION_MISMATCH",
		});
		expect(await auditOf("changes", "plugin:p3")).toHaveLength(2);
	});

	test("caps grants by trust, and keeps those that lost their effect", async () => {
		const permissions = {
			network: true,
			fileSystem: true,
			intercept: true,
			stores: [{ store: "vault", read: true, requiresTrust: true }],
		};
		const set = () => admin.setPermissions({ pluginId: "p4", permissions });
		const refused = await failure(set());
		expect(refused).toMatchObject({ code: Code.FailedPrecondition, reason: "TRUST_TOO_LOW" });
		expect(refused.violation).toMatchObject({ type: "TRUST_LEVEL", subject: "plugin:p4" });
		expect(refused.violation?.description).toContain("stores[0].requires_trust needs TRUSTED");
		await admin.setTrustLevel({ pluginId: "p4", trustLevel: TrustLevel.BASIC });
		expect(await failure(set())).toMatchObject({ reason: "TRUST_TOO_LOW" });
		const { revision } = await admin.setTrustLevel({ pluginId: "p4", trustLevel: TrustLevel.TRUSTED });
		expect(await admin.getTrustLevel({ pluginId: "p4" })).toMatchObject({ trustLevel: TrustLevel.TRUSTED, revision });
		await set();
		expect((await admin.getPermissions({ pluginId: "p4" })).ineffective).toEqual([]);
		await admin.setTrustLevel({ pluginId: "p4", trustLevel: TrustLevel.BASIC, reason: "audit" });
		expect(await admin.getPermissions({ pluginId: "p4" })).toMatchObject({
			permissions: { intercept: true },
			ineffective: ["stores[0].requires_trust", "intercept"],
		});
		await admin.setTrustLevel({ pluginId: "p4", trustLevel: TrustLevel.UNTRUSTED });
		expect((await admin.getPermissions({ pluginId: "p4" })).ineffective).toHaveLength(4);
		expect((await auditOf("changes", "plugin:p4")).filter(({ reason }) => reason === "audit")).toMatchObject([
			{ event: "trust_level_changed", details: { from: "TRUSTED", to: "BASIC" } },
		]);
	});

	test.each<[string, () => Promise<unknown>]>([
		["principal", () => admin.issueCredential({})],
		["plugin_id", () => admin.issueCredential({ principal: { case: "pluginId", value: "No" } })],
		["operator_id", () => admin.issueCredential({ principal: { case: "operatorId", value: "" } })],
		["lifetime", () => admin.issueCredential({ principal: p("x"), lifetime: { seconds: 367n * DAY } })],
		["lifetime", () => admin.issueCredential({ principal: p("x"), lifetime: { seconds: -1n } })],
		["lifetime", () => admin.issueCredential({ principal: p("x"), lifetime: { nanos: 5 } })],
		["request_id", () => admin.issueCredential({ principal: p("x"), requestId: "r".repeat(129) })],
		["target", () => admin.revokeCredential({})],
		["credential_id", () => admin.revokeCredential({ target: { case: "credentialId", value: "" } })],
		["reason", () => admin.revokeCredential({ target: p("x"), reason: "r".repeat(513) })],
		["plugin_id", () => admin.setPermissions({ permissions: {} })],
		["permissions", () => admin.setPermissions({ pluginId: "x" })],
		["permissions.emit[1]", () => admin.setPermissions({ pluginId: "x", permissions: { emit: ["a", "a..b"] } })],
		[
			"permissions.subscribe_topics[0]",
			() => admin.setPermissions({ pluginId: "x", permissions: { subscribeTopics: [""] } }),
		],
		["permissions.send_to[0]", () => admin.setPermissions({ pluginId: "x", permissions: { sendTo: ["A"] } })],
		[
			"permissions.replay",
			() => admin.setPermissions({ pluginId: "x", permissions: { replay: Array(257).fill("a") } }),
		],
		[
			"permissions.stores[0].store",
			() => admin.setPermissions({ pluginId: "x", permissions: { stores: [{ store: "/" }] } }),
		],
		["permissions.stores[0]", () => admin.setPermissions({ pluginId: "x", permissions: { stores: [{ store: "s" }] } })],
		["expected", () => admin.setPermissions({ pluginId: "x", permissions: {}, expected: {} })],
		[
			"expected.absent",
			() =>
				admin.setPermissions({ pluginId: "x", permissions: {}, expected: { state: { case: "absent", value: false } } }),
		],
		["trust_level", () => admin.setTrustLevel({ pluginId: "x" })],
		["trust_level", () => admin.setTrustLevel({ pluginId: "x", trustLevel: 9 as TrustLevel })],
		["plugin_id", () => admin.getPermissions({ pluginId: "../x" })],
		["plugin_id", () => admin.getTrustLevel({})],
	])("refuses a bad %s by its path (%#)", async (field, call) => {
		expect(await failure(call())).toMatchObject({ code: Code.InvalidArgument, field });
	});
});

function p(value: string) {
	return { case: "pluginId", value } as const;
}
