import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Capabilities, type Plugin, PluginState } from "#gen/qirvo/hub/v1/plugin_service_pb.js";
import { HubError } from "../hub-error.ts";
import type { CommitPlan } from "../idempotency/first-answers.ts";
import { type ExpectedRevision, requireRevision } from "../state/expected-revision.ts";
import { keys } from "../state/key-layout.ts";
import type { KvWrite } from "../state/kv-store.ts";
import { type Manifest, parseManifest } from "./manifest.ts";
import { describePlugin, laterOf, saysTheSame } from "./plugin-description.ts";
import { type DraftContext, type PluginAnswer, PluginDraft } from "./plugin-draft.ts";
import { MAX_INSTANCES, type StoredPlugin } from "./plugin-keys.ts";

/** What every change of one plugin says. */
export interface Change {
	readonly pluginId: string;
	/** Default: anything. */
	readonly expected?: ExpectedRevision;
	/** Whether a disabled plugin may be changed: an operator asks. */
	readonly byOperator: boolean;
	/** Further writes for the same commit, made only where the change is. */
	readonly also?: readonly KvWrite[];
}

export interface Registering extends Change {
	readonly manifest: Manifest;
	readonly capabilities: Capabilities;
	/** The instance to carry on, or the id for a new one; undefined: no instance. */
	readonly instance?: { readonly carryOn: string; readonly newId: string };
	/** Whether a taken id is refused with PLUGIN_EXISTS. */
	readonly mustBeNew?: boolean;
}

export interface Updating extends Change {
	readonly manifest?: Manifest;
	readonly capabilities?: (current: Capabilities | undefined) => Capabilities;
}

export interface Disabling extends Change {
	readonly reason: string;
}

type Plan = CommitPlan<PluginAnswer>;

/** `renew` gives a live instance a new lease and says whether it is live. */
export function planRegister(
	input: Registering,
	stored: StoredPlugin,
	context: DraftContext & { readonly renew: (pluginId: string, instanceId: string) => boolean },
): Plan {
	const { pluginId } = input;
	const current = stored.registration?.plugin;
	if (current && input.mustBeNew) {
		throw new HubError("PLUGIN_EXISTS", `plugin "${pluginId}" is registered`, {
			resource: { type: "plugin", name: pluginId },
		});
	}
	admitChange(input, stored);
	const next = describePlugin(pluginId, input.manifest, input.capabilities, current, context.now);
	const changed = !current || !saysTheSame(current, next);
	const draft = new PluginDraft(pluginId, stored, context);
	if (changed) {
		draft.register(next);
		draft.tell(current ? "updated" : "registered");
	}
	return draft.plan(
		input.instance ? joinInstance(draft, input.instance, stored, input, context) : "",
		input.also ?? [],
	);
}

function joinInstance(
	draft: PluginDraft,
	{ carryOn, newId }: { readonly carryOn: string; readonly newId: string },
	stored: StoredPlugin,
	{ pluginId }: Change,
	context: DraftContext & { readonly renew: (pluginId: string, instanceId: string) => boolean },
): string {
	const known = stored.instances.find((instance) => instance.id === carryOn);
	if (known && context.renew(pluginId, carryOn)) {
		if (known.nodeId !== context.nodeId) draft.keepInstance(known);
		return carryOn;
	}
	if (stored.instances.length >= MAX_INSTANCES) {
		throw new HubError("LIMIT_EXCEEDED", `plugin "${pluginId}" has ${MAX_INSTANCES} instances, which is the limit`, {
			metadata: { limit: String(MAX_INSTANCES) },
			quota: { subject: `plugin:${pluginId}`, description: `at most ${MAX_INSTANCES} instances` },
		});
	}
	draft.startInstance(newId);
	return newId;
}

export function planUpdate(input: Updating, stored: StoredPlugin, context: DraftContext): Plan {
	const current = requireRegistered(input, stored);
	admitChange(input, stored);
	const manifest = input.manifest ?? parseManifest(current.manifestJson, "manifest_json");
	const capabilities = input.capabilities?.(current.capabilities) ?? current.capabilities;
	const next = describePlugin(input.pluginId, manifest, capabilities!, current, context.now);
	const draft = new PluginDraft(input.pluginId, stored, context);
	if (!saysTheSame(current, next)) {
		draft.register(next);
		draft.tell("updated");
	}
	return draft.plan("", input.also ?? []);
}

export function planUnregister(input: Change, stored: StoredPlugin, context: DraftContext): Plan {
	requireRegistered(input, stored);
	admitChange(input, stored);
	const draft = new PluginDraft(input.pluginId, stored, context);
	draft.unregister();
	return draft.plan("", input.also ?? []);
}

/** A plugin that is disabled already stays as it is, with the first reason. */
export function planDisable(input: Disabling, stored: StoredPlugin, context: DraftContext): Plan {
	const current = requireRegistered(input, stored);
	const draft = new PluginDraft(input.pluginId, stored, context);
	if (current.state !== PluginState.DISABLED) {
		const updateTime = laterOf(current.updateTime, timestampFromMs(context.now));
		draft.register({ ...current, state: PluginState.DISABLED, disabledReason: input.reason, updateTime });
		draft.write({ key: keys.disabled(input.pluginId), value: Buffer.from(input.reason || "disabled") });
		draft.tell("disabled", { reason: input.reason });
	}
	return draft.plan("", input.also ?? []);
}

export function planEnable(input: Change, stored: StoredPlugin, context: DraftContext): Plan {
	const current = requireRegistered(input, stored);
	const draft = new PluginDraft(input.pluginId, stored, context);
	if (current.state === PluginState.DISABLED) {
		const updateTime = laterOf(current.updateTime, timestampFromMs(context.now));
		draft.register({ ...current, state: PluginState.REGISTERED, disabledReason: "", updateTime });
		draft.write({ key: keys.disabled(input.pluginId), delete: true });
		draft.tell("enabled");
	}
	return draft.plan("", input.also ?? []);
}

/** The refusal of what does not exist, and of what the caller may not know of. */
export function pluginNotFound(pluginId: string): HubError {
	return new HubError("PLUGIN_NOT_FOUND", `there is no plugin "${pluginId}"`, {
		resource: { type: "plugin", name: pluginId },
	});
}

export function pluginDisabled(pluginId: string): HubError {
	return new HubError("PLUGIN_DISABLED", `plugin "${pluginId}" is disabled`, {
		metadata: { plugin_id: pluginId },
		precondition: { type: "PLUGIN_DISABLED", subject: `plugin:${pluginId}`, description: "an operator disabled it" },
	});
}

function requireRegistered({ pluginId }: Change, stored: StoredPlugin): Plugin {
	if (!stored.registration) throw pluginNotFound(pluginId);
	return stored.registration.plugin;
}

function admitChange({ pluginId, expected, byOperator }: Change, stored: StoredPlugin): void {
	const current = stored.registration?.plugin;
	if (current?.state === PluginState.DISABLED && !byOperator) throw pluginDisabled(pluginId);
	const revision = stored.registration?.revision ?? 0;
	requireRevision(expected ?? { kind: "any" }, revision, { type: "plugin", name: pluginId });
}
