import type { Clock, IdSource } from "../clock/clock.ts";
import { DeadLetters } from "../dead-letters/dead-letters.ts";
import { EventBus } from "../events/event-bus.ts";
import type { FirstAnswers } from "../idempotency/first-answers.ts";
import { Router } from "../messaging/router.ts";
import { Routes } from "../messaging/routes.ts";
import { TopicMembers } from "../messaging/topic-members.ts";
import { Registry } from "../plugins/registry.ts";
import { CommitQueue } from "../state/commit-queue.ts";
import type { StateBackend } from "../state/state-backend.ts";
import type { InstanceLeases } from "../stores/instance-leases.ts";
import type { Stores } from "../stores/stores.ts";
import type { EntryFunction } from "../stores/validator-compiler.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { HubOptions } from "./hub-options.ts";
import { openStores } from "./open-stores.ts";
import type { Owner } from "./owner.ts";

/** What the hub exists for, running. */
export interface Subsystems {
	readonly registry: Registry;
	readonly bus: EventBus;
	readonly router: Router;
	readonly topics: TopicMembers;
	readonly routes: Routes;
	readonly stores: Stores;
	/** Of the plugins' instances. */
	readonly leases: InstanceLeases;
}

/** Opens plugins, events, messaging and stores on the state, and plugs them together. `owner` ends them, in reverse. */
export async function openSubsystems(parts: {
	readonly state: StateBackend;
	readonly clock: Clock;
	readonly ids: IdSource;
	readonly logger: Logger;
	readonly options: HubOptions;
	readonly answers: FirstAnswers;
	/** Validators of stores, by name. */
	readonly storeValidators: Readonly<Record<string, EntryFunction>>;
	readonly owner: Owner;
}): Promise<Subsystems> {
	const { state, clock, ids, logger, options, answers, storeValidators: validators, owner } = parts;
	const { kv } = state;
	const onFault = (what: string, error: unknown) => logger.error({ err: error, what }, "a background task failed");
	const log = await state.log("events", { rememberMs: options.idWindow.ms, rememberIds: options.idWindow.ids });
	const registry = owner.use(new Registry({ kv, bus: state.bus, clock, ids, answers, leaseMs: options.leaseMs }));
	await registry.start();
	const queue = owner.use(new CommitQueue({ kv, clock, ids }));
	const letters = new DeadLetters({ kv, queue, clock, ids });
	letters.load();
	const { maxAgeMs, maxRecords, maxBytes } = options.retention;
	const bus = owner.use(
		new EventBus({
			log,
			kv,
			clock,
			ids,
			answers,
			letters,
			retention: {
				maxAgeMs: maxAgeMs || undefined,
				maxRecords: maxRecords || undefined,
				maxBytes: maxBytes || undefined,
			},
			onFault,
		}),
	);
	bus.start();
	const leases = {
		isLive: (pluginId: string, instanceId: string) => registry.isLive(pluginId, instanceId),
		onEnd: (listener: (pluginId: string, instanceId: string) => void) => registry.onInstanceEnd(listener),
	};
	const directory = {
		lookup: (pluginId: string) => registry.lookup(pluginId),
		onRemoved: (listener: (pluginId: string) => void) =>
			registry.index.onTransitions((transitions) => {
				for (const { id, after } of transitions) if (after === undefined) listener(id);
			}),
	};
	const memoryBytes = options.messageMemoryBytes;
	const storage = { idWindowMs: options.idWindow.ms };
	const router = owner.use(
		new Router({ clock, ids, directory, leases, kv, queue, letters, storage, memoryBytes, onFault }),
	);
	router.start();
	const routes = owner.use(new Routes({ kv, answers, clock, ids }));
	routes.start();
	const topics = owner.use(new TopicMembers({ kv, queue, clock, directory, onFault }));
	topics.start();
	const stores = await openStores({ state, clock, ids, answers, leases, validators, onFault, owner });
	return { registry, bus, router, routes, topics, stores, leases };
}
