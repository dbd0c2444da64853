import { durationFromMs } from "@bufbuild/protobuf/wkt";
import {
	DisableRequestSchema,
	EnableRequestSchema,
	PluginService,
	PluginServiceUpdateRequestSchema,
	PluginState,
	type RegisterRequest,
	RegisterRequestSchema,
	UnregisterRequestSchema,
} from "#gen/qirvo/hub/v1/plugin_service_pb.js";
import { HubError } from "../hub-error.ts";
import type { Viewer } from "../plugins/access-control.ts";
import { type Manifest, parseManifest } from "../plugins/manifest.ts";
import { listPlugins } from "../plugins/plugin-list.ts";
import type { Changed } from "../plugins/registry.ts";
import type { AuditRecorder } from "../security/audit-entry.ts";
import { type Caller, principalOf } from "../security/caller.ts";
import type { KvWrite } from "../state/kv-store.ts";
import { type PluginId, parsePluginId } from "../subjects/plugin-id.ts";
import { type Call, type MountedService, mount } from "./call.ts";
import { parseUpdateMask } from "./capabilities-mask.ts";
import { parseCapabilities, parseCapabilityName } from "./capabilities-request.ts";
import { parseExpectedState } from "./expected-state.ts";
import { decodePageToken, encodePageToken, pageSizeOf } from "./page-token.ts";
import { openPluginWatch, type PluginWatchDeps } from "./plugin-watch.ts";
import { bounded, MAX_REQUEST_ID, repeatable } from "./repeatable-request.ts";

/** A control decision, for the audit. */
export interface ControlEntry {
	readonly event: "plugin_disabled" | "plugin_enabled" | "plugin_unregistered";
	readonly actor: string;
	readonly target: string;
	readonly reason?: string;
	readonly requestId?: string;
}

/**
 * Makes the audit record of a control change: a write for the change's own commit, and what to do once it is stored. Takes
 * refusals as well.
 */
interface ControlAudit extends AuditRecorder {
	change(entry: ControlEntry): { readonly write: KvWrite; settle(): Promise<void> };
}

/** Issues a first credential to a plugin that came without one. */
export interface DevCredentials {
	/** The token. Rejects with PLUGIN_EXISTS where the id is taken in any way. */
	create(pluginId: string): Promise<string>;
	/** Undoes `create`. */
	withdraw(pluginId: string): Promise<void>;
}

export interface PluginServiceDeps extends PluginWatchDeps {
	readonly audit: ControlAudit;
	/** Present with `--dev` only: then `Register` takes callers without a credential. */
	readonly devCredentials?: DevCredentials;
}

const PLUGINS_PAGE = Object.freeze({ usual: 50, most: 500 });
const MAX_REASON = 512;
const MAX_CATEGORY = 64;
const MAX_STATES = 16;

/** Registration, presence and lifecycle of plugins. */
export function createPluginService(deps: PluginServiceDeps): MountedService {
	const { registry } = deps;

	async function audited(entry: Omit<ControlEntry, "actor" | "requestId">, call: Call, run: Run): Promise<Changed> {
		const change = deps.audit.change({ ...entry, actor: principalOf(call.caller), requestId: call.requestId });
		const changed = await run([change.write]);
		// The record is stored with the change; one that cannot be moved to its log now is moved at the next start.
		if (changed.stored) await change.settle().catch(() => {});
		return changed;
	}

	async function registerAnonymously(request: RegisterRequest, devCredentials: DevCredentials) {
		const { manifest, ...rest } = parseRegistration(request, undefined);
		const instance = request.withoutInstance ? undefined : { carryOn: "" };
		const pluginId = manifest.id;
		const token = await devCredentials.create(pluginId);
		try {
			const registration = { ...rest, manifest, pluginId, instance, byOperator: false, mustBeNew: true };
			return { ...(await registry.register(registration)), token };
		} catch (error) {
			// Nobody holds the credential: the id must not stay taken.
			await devCredentials.withdraw(pluginId);
			throw error;
		}
	}

	async function register(request: RegisterRequest, call: Call): Promise<Changed & { token?: string }> {
		const { caller } = call;
		if (caller.kind === "anonymous") {
			if (!deps.devCredentials) throw credentialMissing();
			return await registerAnonymously(request, deps.devCredentials);
		}
		const byOperator = caller.kind === "operator";
		if (byOperator && !request.withoutInstance) {
			throw HubError.field("without_instance", "must be true: an operator registers for a plugin, and is none");
		}
		const { manifest, ...rest } = parseRegistration(request, byOperator ? undefined : (caller.id as PluginId));
		if (!byOperator && manifest.id !== caller.id) {
			throw denied(spoofed(manifest.id, caller.id), `plugin:${manifest.id}`, call);
		}
		const instance = request.withoutInstance ? undefined : { carryOn: request.instanceId };
		return await registry.register(
			{ ...rest, manifest, pluginId: manifest.id, instance, byOperator },
			{ request: repeatable(call, "plugin.register", RegisterRequestSchema, request) },
		);
	}

	/** Records the refusal of a call that is about somebody else's registration. */
	function denied(error: HubError, target: string, call: Call): HubError {
		deps.audit.record({
			event: "call_denied",
			actor: principalOf(call.caller),
			target,
			reason: error.reason.toLowerCase(),
			details: { method: call.method, message: error.message },
			requestId: call.requestId,
		});
		return error;
	}

	/** The plugin that a change is about: a plugin acts for itself, an operator for any. */
	function targetOf(pluginId: string, call: Call): PluginId {
		const { caller } = call;
		if (caller.kind === "anonymous") throw credentialMissing();
		if (pluginId === "" && caller.kind === "plugin") return caller.id as PluginId;
		const target = parsePluginId(pluginId, "plugin_id");
		if (caller.kind === "plugin" && target !== caller.id) {
			throw denied(notAllowed("a plugin changes its own registration only"), `plugin:${target}`, call);
		}
		return target;
	}

	return mount(PluginService, {
		async register(request, call) {
			const { plugin, instanceId, duplicate, token } = await register(request, call);
			const lease = instanceId === "" ? undefined : durationFromMs(registry.leases.leaseMs);
			return { plugin, instanceId, lease, token, duplicate };
		},

		async get(request, call) {
			const known = registry.get(parsePluginId(request.pluginId, "plugin_id"), viewerOf(call.caller));
			return { plugin: registry.show(known) };
		},

		async list(request, call) {
			const states = parseStates(request.states);
			const category = bounded(request.category, MAX_CATEGORY, "category");
			const capability =
				request.capability === "" ? "" : parseCapabilityName(request.capability, "capability").canonical;
			const chosen = [principalOf(call.caller), states, category, capability];
			const after = decodePageToken(chosen, request.pageToken) ?? "";
			const limit = pageSizeOf(request.pageSize, PLUGINS_PAGE);
			const viewer = viewerOf(call.caller);
			const page = listPlugins(registry.index, { viewer, states, category, capability, after, limit });
			return {
				plugins: page.plugins.map((known) => registry.show(known)),
				nextPageToken: encodePageToken(chosen, page.next),
			};
		},

		async update(request, call) {
			const pluginId = targetOf(request.pluginId, call);
			const parts = parseUpdateMask(request);
			const manifest = parts.manifest ? parseManifest(request.manifestJson, "manifest_json", pluginId) : undefined;
			if (manifest && manifest.id !== pluginId) {
				throw denied(spoofed(manifest.id, pluginId), `plugin:${manifest.id}`, call);
			}
			if (parts.capabilities) parseCapabilities(request.capabilities, "capabilities");
			const expected = parseExpectedState(request.expected, "expected");
			const byOperator = call.caller.kind === "operator";
			const { plugin, duplicate } = await registry.update(
				{ pluginId, manifest, capabilities: parts.capabilities, expected, byOperator },
				{ request: repeatable(call, "plugin.update", PluginServiceUpdateRequestSchema, request) },
			);
			return { plugin, duplicate };
		},

		async unregister(request, call) {
			const pluginId = targetOf(request.pluginId, call);
			const expected = parseExpectedState(request.expected, "expected");
			const byOperator = call.caller.kind === "operator";
			const once = repeatable(call, "plugin.unregister", UnregisterRequestSchema, request);
			const entry = { event: "plugin_unregistered", target: `plugin:${pluginId}` } as const;
			const { duplicate } = await audited(entry, call, (also) =>
				registry.unregister({ pluginId, expected, byOperator, also }, { request: once }),
			);
			return { duplicate };
		},

		async heartbeat(request, call) {
			if (call.caller.kind !== "plugin") throw notAllowed("only a plugin has instances");
			if (request.instanceId === "") throw HubError.field("instance_id", "is empty");
			await registry.heartbeat(call.caller.id, request.instanceId);
			return { lease: durationFromMs(registry.leases.leaseMs) };
		},

		async disable(request, call) {
			requireOperator(call.caller);
			const pluginId = parsePluginId(request.pluginId, "plugin_id");
			const reason = bounded(request.reason, MAX_REASON, "reason");
			const once = repeatable(call, "plugin.disable", DisableRequestSchema, request);
			const entry = { event: "plugin_disabled", target: `plugin:${pluginId}`, reason } as const;
			const { plugin, duplicate } = await audited(entry, call, (also) =>
				registry.disable(
					{ pluginId, reason, byOperator: true, also },
					{ request: once, validateOnly: request.validateOnly },
				),
			);
			return { plugin, duplicate };
		},

		async enable(request, call) {
			requireOperator(call.caller);
			const pluginId = parsePluginId(request.pluginId, "plugin_id");
			const once = repeatable(call, "plugin.enable", EnableRequestSchema, request);
			const entry = { event: "plugin_enabled", target: `plugin:${pluginId}` } as const;
			const { plugin, duplicate } = await audited(entry, call, (also) =>
				registry.enable({ pluginId, byOperator: true, also }, { request: once, validateOnly: request.validateOnly }),
			);
			return { plugin, duplicate };
		},

		async *watch(request, call) {
			yield* await openPluginWatch(deps, request, viewerOf(call.caller), call);
		},
	});
}

type Run = (also: readonly KvWrite[]) => Promise<Changed>;

/** `ownId` is the id of a manifest that has none. */
function parseRegistration(request: RegisterRequest, ownId: PluginId | undefined) {
	if (request.manifestJson === "") throw HubError.field("manifest_json", "is missing", "INVALID_MANIFEST");
	const manifest: Manifest = parseManifest(request.manifestJson, "manifest_json", ownId);
	bounded(request.instanceId, MAX_REQUEST_ID, "instance_id");
	return {
		manifest,
		capabilities: parseCapabilities(request.capabilities, "capabilities"),
		expected: parseExpectedState(request.expected, "expected"),
	};
}

function parseStates(states: readonly PluginState[]): readonly PluginState[] {
	if (states.length > MAX_STATES) throw HubError.field("states", `has more than ${MAX_STATES} entries`);
	for (const [index, state] of states.entries()) {
		if (state === PluginState.UNSPECIFIED || PluginState[state] === undefined) {
			throw HubError.field(`states[${index}]`, "is not a state");
		}
	}
	return [...new Set(states)].sort();
}

/** Plugins see what admits them; operators see everything. */
function viewerOf(caller: Caller): Viewer {
	if (caller.kind === "anonymous") throw credentialMissing();
	return caller.kind === "operator" ? undefined : caller.id;
}

function requireOperator(caller: Caller): void {
	if (caller.kind === "anonymous") throw credentialMissing();
	if (caller.kind !== "operator") throw notAllowed("only an operator may do this");
}

function credentialMissing(): HubError {
	return new HubError("CREDENTIAL_MISSING", "the call needs a credential");
}

function notAllowed(why: string): HubError {
	return new HubError("CALLER_NOT_ALLOWED", why);
}

function spoofed(named: string, own: string): HubError {
	return new HubError("SPOOFED_SOURCE", `the manifest names the plugin "${named}", but this is "${own}"`, {
		metadata: { plugin_id: own },
	});
}
