import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { type Plugin, RegisterResponseSchema } from "#gen/qirvo/hub/v1/plugin_service_pb.js";
import type { Clock, IdSource } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import type { AnswerCodec, CommitPlan, FirstAnswers, RepeatableRequest } from "../idempotency/first-answers.ts";
import type { KvStore } from "../state/kv-store.ts";
import type { PeerBus } from "../state/peer-bus.ts";
import { admits, type Viewer } from "./access-control.ts";
import { type KnownPlugin, showPlugin } from "./known-plugin.ts";
import { Leases } from "./leases.ts";
import {
	type Change,
	type Disabling,
	planDisable,
	planEnable,
	planRegister,
	planUnregister,
	planUpdate,
	pluginDisabled,
	pluginNotFound,
	type Registering,
	type Updating,
} from "./plugin-changes.ts";
import type { PluginDirectory } from "./plugin-directory.ts";
import { type DraftContext, type PluginAnswer, PluginDraft } from "./plugin-draft.ts";
import { PluginFeed, positionTrimmed } from "./plugin-feed.ts";
import { PluginIndex } from "./plugin-index.ts";
import { PLUGIN_PREFIX, readPlugin, type StoredPlugin } from "./plugin-keys.ts";

export interface RegistryOptions {
	readonly kv: KvStore;
	readonly bus: PeerBus;
	readonly clock: Clock;
	readonly ids: IdSource;
	readonly answers: FirstAnswers;
	/** How long an instance lives without a heartbeat, in milliseconds. Default 30 s. */
	readonly leaseMs?: number;
	/** Registrations in all; one more is LIMIT_EXCEEDED. Default 100,000. */
	readonly maxPlugins?: number;
}

/** What became of a mutation. */
export interface Changed {
	/** As it is now; undefined where it is gone. For a repeat, as the first answer showed it. */
	readonly plugin: Plugin | undefined;
	/** Empty where no instance was started or carried on. */
	readonly instanceId: string;
	/** A repeat of a request that was answered before. */
	readonly duplicate: boolean;
	/** Whether this call stored something: not a repeat, and not what was so already. */
	readonly stored: boolean;
}

/** Whether a mutation is done, or only found out to be allowed. */
export interface Manner {
	readonly request?: RepeatableRequest;
	readonly validateOnly?: boolean;
}

/** An answer is kept as the widest of the responses. */
const ANSWERS: AnswerCodec<PluginAnswer> = {
	encode: ({ plugin, instanceId }) =>
		toBinary(RegisterResponseSchema, {
			$typeName: "qirvo.hub.v1.RegisterResponse",
			plugin,
			instanceId,
			token: "",
			duplicate: false,
		}),
	decode: (bytes) => {
		const { plugin, instanceId } = fromBinary(RegisterResponseSchema, bytes);
		return { plugin, instanceId };
	},
};

/**
 * Registrations, the instances that are there, and the commits that change them. Each change, its lifecycle events, its
 * first answer and what it takes from other subsystems are one commit, checked against what the plan read.
 */
export class Registry implements PluginDirectory, AsyncDisposable {
	readonly #kv: KvStore;
	readonly #bus: PeerBus;
	readonly #clock: Clock;
	readonly #ids: IdSource;
	readonly #answers: FirstAnswers;
	readonly #maxPlugins: number;
	/** Ids whose first registration is being committed, with the calls that try. They count as if they were there. */
	readonly #joining = new Map<string, number>();
	readonly index: PluginIndex;
	readonly leases: Leases;

	constructor(options: RegistryOptions) {
		this.#kv = options.kv;
		this.#bus = options.bus;
		this.#clock = options.clock;
		this.#ids = options.ids;
		this.#answers = options.answers;
		this.#maxPlugins = options.maxPlugins ?? 100_000;
		this.index = new PluginIndex(options);
		this.leases = new Leases({
			index: this.index,
			clock: options.clock,
			leaseMs: options.leaseMs ?? 30_000,
			end: (pluginId, instanceId) => this.#endInstance(pluginId, instanceId),
		});
	}

	/** Loads what is stored and gives every stored instance one full lease. */
	async start(): Promise<void> {
		await this.index.start();
		this.leases.start();
	}

	/** Nothing of the store is changed: after a restart the instances have one lease to come back. */
	async [Symbol.asyncDispose](): Promise<void> {
		await this.leases[Symbol.asyncDispose]();
		await this.index[Symbol.asyncDispose]();
	}

	/** The plugin, where it exists and admits the viewer; else PLUGIN_NOT_FOUND. */
	get(pluginId: string, viewer: Viewer): KnownPlugin {
		const known = this.index.get(pluginId);
		if (!known || !admits(known, viewer)) throw pluginNotFound(pluginId);
		return known;
	}

	lookup(pluginId: string): "unknown" | "present" | "disabled" {
		const known = this.index.get(pluginId);
		if (!known) return "unknown";
		return known.disabled ? "disabled" : "present";
	}

	isLive(pluginId: string, instanceId: string): boolean {
		return this.leases.isLive(pluginId, instanceId);
	}

	onInstanceEnd(listener: (pluginId: string, instanceId: string) => void): Disposable {
		return this.leases.onInstanceEnd(listener);
	}

	admits(pluginId: string, callerId: string): boolean {
		const known = this.index.get(pluginId);
		return known !== undefined && admits(known, callerId);
	}

	/**
	 * A view of all plugins, or of one, that tells what changes; from a snapshot or after a position. Refuses with
	 * POSITION_TRIMMED, also for a position of another epoch. Whoever opens it disposes it.
	 */
	async watch(
		view: { readonly viewer: Viewer; readonly pluginId?: string },
		after: { readonly epoch: string; readonly revision: number } | undefined,
		signal: AbortSignal,
	): Promise<PluginFeed> {
		const options = { ...view, kv: this.#kv, index: this.index };
		if (!after) return PluginFeed.snapshot(options);
		if (after.epoch !== this.index.epoch) throw positionTrimmed();
		return await PluginFeed.resume(options, after.revision, signal);
	}

	/** The plugin as callers see it. */
	show(known: KnownPlugin): Plugin {
		return showPlugin(known, (pluginId, instanceId) => this.leases.endOf(pluginId, instanceId));
	}

	/**
	 * Registers, or registers again, and starts or carries on an instance. What is the same already is not stored again.
	 * Refuses with PLUGIN_DISABLED, REVISION_MISMATCH, PLUGIN_EXISTS, LIMIT_EXCEEDED and what `FirstAnswers` refuses.
	 */
	async register(
		input: Omit<Registering, "instance"> & { readonly instance?: { readonly carryOn: string } },
		manner: Manner = {},
	): Promise<Changed> {
		const { pluginId } = input;
		const instance = input.instance && { ...input.instance, newId: this.#ids.next() };
		const renew = (id: string, instanceId: string) => this.leases.renew(id, instanceId);
		let isJoining = false;
		try {
			const changed = await this.#change(pluginId, manner, (stored, context) => {
				if (!stored.registration && !isJoining) {
					this.#join(pluginId);
					isJoining = true;
				}
				const show = (known: KnownPlugin) => this.#showWith(known, instance?.newId, context.now + this.leases.leaseMs);
				return planRegister({ ...input, instance }, stored, { ...context, show, renew });
			});
			// The answer to a repeat is as old as the first one; the caller is there all the same.
			if (changed.duplicate) this.leases.renew(pluginId, changed.instanceId);
			return changed;
		} finally {
			if (isJoining) this.#joined(pluginId);
		}
	}

	update(input: Updating, manner: Manner = {}): Promise<Changed> {
		return this.#change(input.pluginId, manner, (stored, context) => planUpdate(input, stored, context));
	}

	unregister(input: Change, manner: Manner = {}): Promise<Changed> {
		return this.#change(input.pluginId, manner, (stored, context) => planUnregister(input, stored, context));
	}

	disable(input: Disabling, manner: Manner = {}): Promise<Changed> {
		return this.#change(input.pluginId, manner, (stored, context) => planDisable(input, stored, context));
	}

	enable(input: Change, manner: Manner = {}): Promise<Changed> {
		return this.#change(input.pluginId, manner, (stored, context) => planEnable(input, stored, context));
	}

	/** Renews a lease. Refuses with INSTANCE_NOT_FOUND and PLUGIN_DISABLED. */
	async heartbeat(pluginId: string, instanceId: string): Promise<void> {
		const known = this.index.get(pluginId);
		if (known?.disabled) throw pluginDisabled(pluginId);
		const instance = known?.instances.find((one) => one.id === instanceId);
		if (!instance || !this.leases.renew(pluginId, instanceId)) {
			throw new HubError("INSTANCE_NOT_FOUND", `plugin "${pluginId}" has no instance "${instanceId}"; register again`, {
				resource: { type: "instance", name: instanceId },
			});
		}
		if (instance.nodeId !== this.#bus.nodeId) await this.#keep(pluginId, instanceId);
	}

	async #change(
		pluginId: string,
		{ request, validateOnly }: Manner,
		plan: (stored: StoredPlugin, context: DraftContext) => CommitPlan<PluginAnswer>,
	): Promise<Changed> {
		let planned: CommitPlan<PluginAnswer> | undefined;
		const attempt = () => {
			const stored = readPlugin(this.#kv, pluginId, this.index.get(pluginId)?.registration);
			planned = plan(stored, this.#context());
			return planned;
		};
		if (validateOnly) return { ...this.#answer(attempt().answer, this.index.get(pluginId)?.revision ?? 0), ...IDLE };
		const settled = await this.#answers.settle(attempt, request && { request, codec: ANSWERS });
		const { duplicate, firstRevision } = settled;
		const writes = duplicate ? [] : (planned?.writes ?? []);
		const last = writes.findLastIndex((write) => write.key.startsWith(PLUGIN_PREFIX));
		if (last >= 0) await this.index.reached(firstRevision + last);
		return { ...this.#answer(settled.answer, firstRevision), duplicate, stored: writes.length > 0 };
	}

	/** A registration that its commit wrote was the first write of it. */
	#answer({ plugin, instanceId }: PluginAnswer, firstRevision: number): Pick<Changed, "plugin" | "instanceId"> {
		if (plugin?.revision === 0n) plugin.revision = BigInt(firstRevision);
		return { plugin, instanceId };
	}

	#context(): DraftContext {
		return {
			now: this.#clock.now(),
			changeId: this.#ids.next(),
			nodeId: this.#bus.nodeId,
			show: (plugin) => this.show(plugin),
		};
	}

	/** A new instance's lease begins when its commit is seen, which is about now. */
	#showWith(known: KnownPlugin, newId: string | undefined, newEnd: number): Plugin {
		return showPlugin(known, (pluginId, id) => this.leases.endOf(pluginId, id) ?? (id === newId ? newEnd : undefined));
	}

	#join(pluginId: string): void {
		const others = this.#joining.get(pluginId) ?? 0;
		if (others === 0 && this.index.size + this.#joining.size >= this.#maxPlugins) {
			throw new HubError("LIMIT_EXCEEDED", `there are ${this.#maxPlugins} plugins, which is the limit`, {
				metadata: { limit: String(this.#maxPlugins) },
				quota: { subject: "hub", description: `at most ${this.#maxPlugins} plugins` },
			});
		}
		this.#joining.set(pluginId, others + 1);
	}

	#joined(pluginId: string): void {
		const others = this.#joining.get(pluginId)! - 1;
		if (others > 0) this.#joining.set(pluginId, others);
		else this.#joining.delete(pluginId);
	}

	async #endInstance(pluginId: string, instanceId: string): Promise<"ended" | "kept"> {
		const keepers = new Set(this.#bus.nodes().map((node) => node.id));
		let kept = false;
		await this.#change(pluginId, {}, (stored, context) => {
			const instance = stored.instances.find((one) => one.id === instanceId);
			const draft = new PluginDraft(pluginId, stored, context);
			kept = instance !== undefined && instance.nodeId !== context.nodeId && keepers.has(instance.nodeId);
			if (instance && !kept) draft.endInstance(instanceId, "the lease ended");
			return draft.plan("", []);
		});
		return kept ? "kept" : "ended";
	}

	async #keep(pluginId: string, instanceId: string): Promise<void> {
		await this.#change(pluginId, {}, (stored, context) => {
			const draft = new PluginDraft(pluginId, stored, context);
			const instance = stored.instances.find((one) => one.id === instanceId);
			if (instance && instance.nodeId !== context.nodeId) draft.keepInstance(instance);
			return draft.plan("", []);
		});
	}
}

const IDLE = { duplicate: false, stored: false };
