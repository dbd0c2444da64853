import { durationMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
	type IssueCredentialRequest,
	IssueCredentialRequestSchema,
	type RevokeCredentialRequest,
	SecurityAdminService,
	TrustLevel,
} from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import { HubError } from "../hub-error.ts";
import { requestDigest } from "../idempotency/request-digest.ts";
import { principalOf } from "../security/caller.ts";
import type { ChangedBy, Credentials } from "../security/credentials.ts";
import { parsePermissions } from "../security/permissions.ts";
import type { PolicyAdmin } from "../security/policy-admin.ts";
import type { Principal } from "../security/token.ts";
import { parsePluginId } from "../subjects/plugin-id.ts";
import { type Call, type MountedService, mount } from "./call.ts";
import { parseExpectedState } from "./expected-state.ts";

const DAY_MS = 86_400_000;
const DEFAULT_LIFETIME_MS = 30 * DAY_MS;
const MAX_LIFETIME_MS = 366 * DAY_MS;
const MAX_REASON = 512;
const MAX_ID = 128;

export interface SecurityAdminDeps {
	readonly credentials: Credentials;
	readonly policy: PolicyAdmin;
}

/** Credentials, permissions and trust, for operators. */
export function createSecurityAdminService({ credentials, policy }: SecurityAdminDeps): MountedService {
	return mount(SecurityAdminService, {
		async issueCredential(request, call) {
			const by = operatorOf(call);
			const principal = parsePrincipal(request.principal);
			const lifetimeMs = parseLifetime(request.lifetime);
			const requestId = atMost(request.requestId, MAX_ID, "request_id");
			if (request.validateOnly) {
				credentials.checkRoom(principal);
				return {};
			}
			const once =
				requestId === "" ? undefined : { requestId, digest: requestDigest(IssueCredentialRequestSchema, request) };
			const issued = await credentials.issue({ principal, lifetimeMs, request: once }, by);
			return { ...issued, expireTime: timestampFromMs(issued.expiresAt) };
		},

		async revokeCredential(request, call) {
			const by = operatorOf(call);
			const target = parseTarget(request.target);
			const reason = atMost(request.reason, MAX_REASON, "reason");
			if (typeof target === "string") await credentials.revoke(target, reason, by, request.validateOnly);
			else await credentials.revokeAll(target, reason, by, request.validateOnly);
			return {};
		},

		async setPermissions(request, call) {
			const by = operatorOf(call);
			const pluginId = parsePluginId(request.pluginId, "plugin_id");
			const permissions = parsePermissions(request.permissions, "permissions");
			const expected = parseExpectedState(request.expected, "expected");
			const options = { pluginId, expected, validateOnly: request.validateOnly };
			const revision = await policy.setPermissions(permissions, options, by);
			return { permissions, revision: BigInt(revision) };
		},

		async getPermissions(request, call) {
			operatorOf(call);
			const { value, revision, ineffective } = policy.permissions(parsePluginId(request.pluginId, "plugin_id"));
			return { permissions: value, revision: BigInt(revision), ineffective: [...ineffective] };
		},

		async setTrustLevel(request, call) {
			const by = operatorOf(call);
			const pluginId = parsePluginId(request.pluginId, "plugin_id");
			const trustLevel = parseTrustLevel(request.trustLevel);
			const expected = parseExpectedState(request.expected, "expected");
			const reason = atMost(request.reason, MAX_REASON, "reason");
			const options = { pluginId, expected, validateOnly: request.validateOnly };
			const revision = await policy.setTrust(trustLevel, reason, options, by);
			return { trustLevel, revision: BigInt(revision) };
		},

		async getTrustLevel(request, call) {
			operatorOf(call);
			const { value, revision } = policy.trust(parsePluginId(request.pluginId, "plugin_id"));
			return { trustLevel: value, revision: BigInt(revision) };
		},
	});
}

/** The method policy lets operators through only; this holds where a service is mounted without one. */
function operatorOf({ caller, requestId }: Call): ChangedBy {
	if (caller.kind !== "operator") throw new HubError("CALLER_NOT_ALLOWED", "this is for operators");
	return { actor: principalOf(caller), requestId };
}

function parsePrincipal(principal: IssueCredentialRequest["principal"]): Principal {
	switch (principal.case) {
		case "pluginId":
			return { kind: "plugin", id: parsePluginId(principal.value, "plugin_id") };
		case "operatorId":
			return { kind: "operator", id: parsePluginId(principal.value, "operator_id") };
		default:
			throw HubError.field("principal", "is required: set plugin_id or operator_id");
	}
}

/** A credential id, or the plugin whose credentials are meant. */
function parseTarget(target: RevokeCredentialRequest["target"]): string | Principal {
	switch (target.case) {
		case "credentialId":
			if (target.value === "") throw HubError.field("credential_id", "is empty");
			return atMost(target.value, MAX_ID, "credential_id");
		case "pluginId":
			return { kind: "plugin", id: parsePluginId(target.value, "plugin_id") };
		default:
			throw HubError.field("target", "is required: set credential_id or plugin_id");
	}
}

function parseLifetime(lifetime: IssueCredentialRequest["lifetime"]): number {
	if (lifetime === undefined) return DEFAULT_LIFETIME_MS;
	const ms = durationMs(lifetime);
	if (ms < 1000 || ms > MAX_LIFETIME_MS) throw HubError.field("lifetime", "must be 1 second to 366 days");
	return ms;
}

function parseTrustLevel(level: TrustLevel): TrustLevel {
	if (level === TrustLevel.UNSPECIFIED || TrustLevel[level] === undefined) {
		throw HubError.field("trust_level", "must be UNTRUSTED, BASIC, TRUSTED or VERIFIED");
	}
	return level;
}

function atMost(text: string, characters: number, field: string): string {
	if (text.length > characters) {
		throw HubError.field(field, `has ${text.length} characters; at most ${characters} are allowed`);
	}
	return text;
}
