import { create, toBinary } from "@bufbuild/protobuf";
import {
	InstanceRecordSchema,
	PluginRecordSchema,
	PresenceRecordSchema,
} from "#gen/qirvo/hub/storage/v1/records_pb.js";
import { type Plugin, PluginState } from "#gen/qirvo/hub/v1/plugin_service_pb.js";
import type { CommitPlan } from "../idempotency/first-answers.ts";
import { keys } from "../state/key-layout.ts";
import type { KvCheck, KvWrite } from "../state/kv-store.ts";
import { KnownPlugin, Registration, StoredInstance, stateOf } from "./known-plugin.ts";
import { type LifecycleWord, lifecycleWrite } from "./lifecycle-event.ts";
import { presenceKey, type StoredPlugin } from "./plugin-keys.ts";

/** What a change needs to know beside the plugin. */
export interface DraftContext {
	/** Milliseconds since the Unix epoch. */
	readonly now: number;
	/** Unique to this attempt: at most one commit carries it, so the ids of its events are made from it. */
	readonly changeId: string;
	/** This hub node. */
	readonly nodeId: string;
	/** Shows a plugin to its caller. */
	readonly show: (plugin: KnownPlugin) => Plugin;
}

/** What a mutation answers. A plugin whose registration the commit wrote has revision 0 here: it is not known yet. */
export interface PluginAnswer {
	readonly plugin: Plugin | undefined;
	/** Empty where no instance was started or carried on. */
	readonly instanceId: string;
}

/**
 * One commit on one plugin in the making. Every draft checks the registration. One that touches instances also checks and
 * writes the presence key, so that of two such commits one sees the other: nobody goes OFFLINE beside a new instance.
 */
export class PluginDraft {
	readonly #id: string;
	readonly #stored: StoredPlugin;
	readonly #context: DraftContext;
	readonly #checks: KvCheck[] = [];
	readonly #writes: KvWrite[] = [];
	readonly #events: { word: LifecycleWord; instanceId?: string; reason?: string }[] = [];
	#registration: Registration | undefined;
	#plugin: Plugin | undefined;
	#instances: readonly StoredInstance[];
	#wasThere: boolean;

	constructor(id: string, stored: StoredPlugin, context: DraftContext) {
		this.#id = id;
		this.#stored = stored;
		this.#context = context;
		this.#registration = stored.registration;
		this.#plugin = stored.registration?.plugin;
		this.#instances = stored.instances;
		this.#wasThere = stored.presenceRevision !== 0;
		this.#checks.push({ key: keys.registration(id), revision: stored.registration?.revision ?? 0 });
	}

	/** Must come first: the registration is the first write of its commit, and its revision is known from that. */
	register(plugin: Plugin): void {
		if (this.#writes.length > 0) throw new Error("the registration is the first write");
		const value = toBinary(PluginRecordSchema, create(PluginRecordSchema, { plugin }));
		this.#writes.push({ key: keys.registration(this.#id), value });
		this.#registration = new Registration(this.#id, 0, value);
		this.#plugin = plugin;
	}

	startInstance(instanceId: string): void {
		const first = this.#instances.length === 0;
		const instance = this.#writeInstance(instanceId, this.#context.now);
		this.#setInstances([...this.#instances, instance].sort((a, b) => (a.id < b.id ? -1 : 1)));
		if (first) this.tell("online", { instanceId });
	}

	/** Makes this node the keeper of the instance's lease. */
	keepInstance(instance: StoredInstance): void {
		this.#checks.push({ key: presenceKey(this.#id), revision: this.#stored.presenceRevision });
		this.#writeInstance(instance.id, instance.startTime);
	}

	endInstance(instanceId: string, reason: string): void {
		this.#writes.push({ key: keys.instance(this.#id, instanceId), delete: true });
		this.#setInstances(this.#instances.filter((instance) => instance.id !== instanceId));
		if (this.#instances.length === 0) this.tell("offline", { instanceId, reason });
	}

	/** Takes the registration away, with everything that another plugin of this id must not inherit. */
	unregister(): void {
		this.#writes.push({ key: keys.registration(this.#id), delete: true });
		for (const { id } of this.#instances) this.#writes.push({ key: keys.instance(this.#id, id), delete: true });
		if (this.#stored.presenceRevision !== 0) this.#writes.push({ key: presenceKey(this.#id), delete: true });
		this.#checks.push({ key: presenceKey(this.#id), revision: this.#stored.presenceRevision });
		for (const key of [keys.permissions(this.#id), keys.trust(this.#id), keys.disabled(this.#id)]) {
			this.#writes.push({ key, delete: true });
		}
		this.tell("unregistered");
		this.#registration = undefined;
	}

	write(write: KvWrite): void {
		this.#writes.push(write);
	}

	/** Tells the others. Events of one commit are told in this order. */
	tell(word: LifecycleWord, more: { instanceId?: string; reason?: string } = {}): void {
		this.#events.push({ word, ...more });
	}

	/** The commit, whose events tell of the plugin as it is after all of it. */
	plan(instanceId: string, also: readonly KvWrite[]): CommitPlan<PluginAnswer> {
		const known = this.#registration && new KnownPlugin(this.#registration, this.#instances, this.#wasThere);
		const plugin = this.#plugin;
		const state = known && stateOf(plugin?.state === PluginState.DISABLED, known.instances.length, known.wasThere);
		const events = plugin
			? this.#events.map((event, index) => {
					const id = `${this.#context.changeId}-${index}-${event.word}`;
					return lifecycleWrite({ ...event, id, plugin, state, time: this.#context.now });
				})
			: [];
		return {
			checks: this.#checks,
			writes: this.#writes.length === 0 ? [] : [...this.#writes, ...events, ...also],
			answer: { plugin: known && this.#context.show(known), instanceId },
		};
	}

	#writeInstance(id: string, startTime: number): StoredInstance {
		const { nodeId } = this.#context;
		const record = create(InstanceRecordSchema, { startTimeMs: BigInt(startTime), nodeId });
		this.#writes.push({ key: keys.instance(this.#id, id), value: toBinary(InstanceRecordSchema, record) });
		return new StoredInstance(id, record);
	}

	#setInstances(instances: readonly StoredInstance[]): void {
		const key = presenceKey(this.#id);
		const record = create(PresenceRecordSchema, { instances: instances.length });
		this.#checks.push({ key, revision: this.#stored.presenceRevision });
		this.#writes.push({ key, value: toBinary(PresenceRecordSchema, record) });
		this.#instances = instances;
		this.#wasThere = true;
	}
}
