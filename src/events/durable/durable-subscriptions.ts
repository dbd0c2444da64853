import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { DurableStart, DurableSubscription } from "#gen/qirvo/hub/v1/durable_subscriptions_pb.js";
import { DurableSubscriptionSchema } from "#gen/qirvo/hub/v1/durable_subscriptions_pb.js";
import type { Clock, IdSource } from "../../clock/clock.ts";
import type { DeadLetter } from "../../dead-letters/dead-letters.ts";
import { compileEventFilter } from "../../expressions/event-filter.ts";
import { HubError } from "../../hub-error.ts";
import type { FirstAnswers, RepeatableRequest } from "../../idempotency/first-answers.ts";
import { type ExpectedRevision, requireRevision } from "../../state/expected-revision.ts";
import { keys } from "../../state/key-layout.ts";
import type { KvStore, KvWrite } from "../../state/kv-store.ts";
import type { LogStore } from "../../state/log-store.ts";
import { prefixEnd } from "../../state/state-backend.ts";
import { type Start, startPosition } from "../start-position.ts";
import type { TailPump } from "../tail-pump.ts";
import { ConsumerGroup } from "./consumer-group.ts";
import type { ConsumerSession } from "./consumer-session.ts";
import { deadEventOf } from "./dead-event.ts";
import type { DeadLetterSink } from "./dead-letter-sink.ts";
import { DURABLE_ANSWERS } from "./durable-answers.ts";
import { DURABLE_LIMITS, type DurableDefinition, decodeDefinition, encodeDefinition } from "./durable-definition.ts";
import { durableKeys } from "./durable-keys.ts";
import { type DurableProgress, decodeProgress, encodeProgress, lagOf, newCounters } from "./durable-progress.ts";
import { exists, notFound, notRegistered, resetError } from "./durable-refusals.ts";
import { DurableRemoval } from "./durable-removal.ts";
import { statusOf } from "./durable-status.ts";

export interface DurableSubscriptionsOptions {
	readonly kv: KvStore;
	readonly log: LogStore;
	readonly pump: TailPump;
	readonly clock: Clock;
	readonly ids: IdSource;
	readonly answers: FirstAnswers;
	/** Where events go that are given up. */
	readonly sink: DeadLetterSink;
	/** Told of faults that no caller waits for. */
	readonly onFault: (error: unknown) => void;
}

/** A durable subscription to be. */
export interface DurableDraft {
	readonly pluginId: string;
	/** As it is to be shown: name, patterns, filter, start, ack wait, backoff and bounds, with their defaults filled in. */
	readonly shown: DurableSubscription;
	readonly start: Start;
}

/** Which durable subscription, and what it must look like for a change. */
export interface DurableTarget {
	readonly pluginId: string;
	readonly name: string;
	readonly expected: ExpectedRevision;
	/** Further writes for the commit of the change. */
	readonly also?: readonly KvWrite[];
}

export interface DurablePage {
	readonly subscriptions: readonly DurableSubscription[];
	/** What to ask after for the next page; undefined: this was the last. */
	readonly next: string | undefined;
}

/** What a change of a durable subscription comes to. */
export interface DurableChanged {
	readonly subscription: DurableSubscription;
	readonly duplicate: boolean;
}

/**
 * The durable subscriptions: what is stored of them, and the groups that consume them now. One belongs to a life of its
 * plugin's registration: with the registration it goes.
 */
export class DurableSubscriptions implements AsyncDisposable {
	readonly #options: DurableSubscriptionsOptions;
	/** By definition key. A group that is being opened is there already. */
	readonly #groups = new Map<string, Promise<ConsumerGroup>>();
	readonly #open = new Map<string, ConsumerGroup>();
	readonly #removal: DurableRemoval;
	/** Counts of groups that have ended. */
	#redelivered = 0;
	#dead = 0;
	#lost = 0;
	#stopped = false;

	constructor(options: DurableSubscriptionsOptions) {
		this.#options = options;
		this.#removal = new DurableRemoval({ ...options, onGone: (key, name) => this.#endGroup(key, notFound(name)) });
	}

	/** What is consumed now, and what was since the start. */
	get totals() {
		const totals = { groups: 0, sessions: 0, inFlight: 0, lag: 0 };
		let [redelivered, dead, lost] = [this.#redelivered, this.#dead, this.#lost];
		for (const group of this.#open.values()) {
			totals.groups++;
			totals.sessions += group.sessions;
			totals.inFlight += group.inFlight;
			totals.lag += lagOf(group.progress, this.#options.log);
			redelivered += group.since.redelivered;
			dead += group.since.dead;
			lost += group.since.lost;
		}
		return { ...totals, redelivered, dead, lost };
	}

	/** Begins to follow registrations that end, after it has looked for those that ended before. */
	start(): void {
		this.#removal.start();
	}

	/** Refuses with SUBSCRIPTION_EXISTS, PLUGIN_NOT_REGISTERED, POSITION_TRIMMED, LIMIT_EXCEEDED and as `FirstAnswers`. */
	async create(draft: DurableDraft, request?: RepeatableRequest): Promise<DurableChanged> {
		const { kv, log, clock } = this.#options;
		const { pluginId, shown, start } = draft;
		const began = log.bounds().next;
		const { sequence } = await startPosition(log, start);
		const subscription = create(DurableSubscriptionSchema, {
			...shown,
			pluginId,
			createTime: timestampFromMs(clock.now()),
			revision: 0n,
			status: undefined,
		});
		const key = durableKeys.definition(pluginId, shown.name);
		const plan = () => {
			const registration = kv.get(keys.registration(pluginId));
			if (registration === undefined) throw notRegistered(pluginId);
			const registrationRevision = BigInt(registration.createRevision);
			const existing = kv.get(key);
			if (existing !== undefined && this.#isLive(decodeDefinition(existing))) throw exists(shown.name);
			if (existing === undefined) this.#requireRoom(pluginId);
			const value = encodeDefinition({ subscription, registrationRevision, began: BigInt(began) });
			return {
				checks: [
					{ key, revision: existing?.revision ?? 0 },
					{ key: keys.registration(pluginId), revision: registration.revision },
				],
				writes: [
					{ key, value },
					{ key: durableKeys.progress(pluginId, shown.name), value: this.#begin(sequence) },
				],
				answer: subscription,
			};
		};
		const settled = await this.#options.answers.settle(plan, request && { request, codec: DURABLE_ANSWERS });
		const { answer, duplicate, firstRevision } = settled;
		return { subscription: { ...answer, revision: BigInt(firstRevision) }, duplicate };
	}

	/** Refuses with SUBSCRIPTION_NOT_FOUND. */
	get(pluginId: string, name: string): DurableSubscription {
		return this.#show(this.define(pluginId, name));
	}

	/** The stored definition. Refuses with SUBSCRIPTION_NOT_FOUND. */
	define(pluginId: string, name: string): DurableDefinition {
		const entry = this.#options.kv.get(durableKeys.definition(pluginId, name));
		const definition = entry && decodeDefinition(entry);
		if (definition === undefined || !this.#isLive(definition)) throw notFound(name);
		return definition;
	}

	/** In order of plugin and name, after the place given: those of one plugin, or all where `pluginId` is empty. */
	list(query: { readonly pluginId: string; readonly after: string; readonly limit: number }): DurablePage {
		const prefix = durableKeys.definitions(query.pluginId);
		const start = query.after === "" ? prefix : `${durableKeys.definitions("")}${query.after}\0`;
		const page = this.#options.kv.range({ start, end: prefixEnd(prefix), limit: query.limit });
		const definitions = page.entries.map(decodeDefinition).filter((definition) => this.#isLive(definition));
		const last = page.entries.at(-1)?.key.slice(durableKeys.definitions("").length);
		return { subscriptions: definitions.map((each) => this.#show(each)), next: page.more ? last : undefined };
	}

	/** Refuses with SUBSCRIPTION_NOT_FOUND, REVISION_MISMATCH and as `FirstAnswers`. Sessions end. True: a repeat. */
	async delete({ pluginId, name, expected, also = [] }: DurableTarget, request?: RepeatableRequest): Promise<boolean> {
		const key = durableKeys.definition(pluginId, name);
		let revision = 0;
		const plan = () => {
			revision = this.#expect(pluginId, name, expected).revision;
			return {
				checks: [{ key, revision }],
				writes: [
					{ key, delete: true as const },
					{ key: durableKeys.progress(pluginId, name), delete: true as const },
					...also,
				],
				answer: create(DurableSubscriptionSchema),
			};
		};
		const { duplicate } = await this.#options.answers.settle(plan, request && { request, codec: DURABLE_ANSWERS });
		if (!duplicate) {
			this.#endGroup(key, notFound(name));
			await this.#removal.discardReturned(pluginId, name, revision);
		}
		return duplicate;
	}

	/** Refuses with SUBSCRIPTION_NOT_FOUND, REVISION_MISMATCH, POSITION_TRIMMED and as `FirstAnswers`. Sessions end. */
	async reset(
		target: DurableTarget & { readonly start: Start; readonly shownStart: DurableStart },
		request?: RepeatableRequest,
	): Promise<DurableChanged> {
		const { kv, log, answers } = this.#options;
		const { pluginId, name, expected, shownStart, also = [] } = target;
		const key = durableKeys.definition(pluginId, name);
		const began = log.bounds().next;
		const { sequence } = await startPosition(log, target.start);
		let revision = 0;
		const plan = () => {
			const definition = this.#expect(pluginId, name, expected);
			revision = definition.revision;
			const subscription = { ...definition.shown, start: shownStart };
			const registrationRevision = BigInt(definition.registrationRevision);
			const progressKey = durableKeys.progress(pluginId, name);
			const before = kv.get(progressKey);
			const progress = this.#open.get(key)?.progress ?? (before && decodeProgress(before.value));
			return {
				checks: [
					{ key, revision: definition.revision },
					{ key: progressKey, revision: before?.revision ?? 0 },
				],
				writes: [
					{ key, value: encodeDefinition({ subscription, registrationRevision, began: BigInt(began) }) },
					{ key: progressKey, value: this.#begin(sequence, progress) },
					...also,
				],
				answer: subscription,
			};
		};
		const settled = await answers.settle(plan, request && { request, codec: DURABLE_ANSWERS });
		const { answer, duplicate, firstRevision } = settled;
		if (!duplicate) {
			this.#endGroup(key, resetError(name));
			await this.#removal.discardReturned(pluginId, name, revision);
		}
		return { subscription: { ...answer, revision: BigInt(firstRevision) }, duplicate };
	}

	/**
	 * A session that receives the events of a durable subscription, as it was defined when the caller was admitted. Refuses
	 * with SUBSCRIPTION_NOT_FOUND, SUBSCRIPTION_RESET and LIMIT_EXCEEDED.
	 */
	async consume(admitted: DurableDefinition, maxInFlight: number): Promise<ConsumerSession> {
		const { pluginId, name } = admitted;
		return await this.#withGroup(pluginId, name, (group) => {
			if (group.definition.revision !== admitted.revision) throw resetError(name);
			return group.join(maxInFlight);
		});
	}

	/**
	 * Puts an event back into the durable subscription that gave it up, in one commit: it is due there, as one that was never
	 * delivered, and no letter any more. Rejects with DEAD_LETTER_NOT_FOUND, also for a letter that is no event;
	 * SUBSCRIPTION_NOT_FOUND where the subscription was deleted since; and as `LetterExchange.takeBack`.
	 */
	async redrive(letter: DeadLetter): Promise<void> {
		const { pluginId, id } = letter;
		const dead = deadEventOf(letter);
		if (dead === undefined) throw new HubError("DEAD_LETTER_NOT_FOUND", "the letter is not an event");
		await this.#withGroup(pluginId, dead.subscription, async (group) => {
			if (group.definition.life !== dead.life) throw notFound(dead.subscription);
			await group.takeBack(dead, () => this.#options.sink.take(pluginId, id));
		});
	}

	/** An open session of the plugin. Refuses with SESSION_NOT_FOUND. */
	session(pluginId: string, sessionId: string): ConsumerSession {
		for (const group of this.#open.values()) {
			if (group.definition.pluginId !== pluginId) continue;
			const session = group.session(sessionId);
			if (session !== undefined) return session;
		}
		throw new HubError("SESSION_NOT_FOUND", "there is no such session", {
			metadata: { session_id: sessionId.slice(0, 64) },
		});
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#stopped = true;
		await this.#removal[Symbol.asyncDispose]();
		await Promise.allSettled(this.#groups.values());
		const groups = [...this.#open.values()];
		for (const group of groups) group.end(new HubError("HUB_DRAINING", "the hub is shutting down"), false);
		await Promise.all(groups.map((group) => group.stored().catch(() => {})));
	}

	/** Does something at once with the group of a durable subscription as it is now. Refuses with SUBSCRIPTION_NOT_FOUND. */
	async #withGroup<R>(pluginId: string, name: string, use: (group: ConsumerGroup) => R): Promise<Awaited<R>> {
		const key = durableKeys.definition(pluginId, name);
		for (;;) {
			if (this.#stopped) throw new HubError("HUB_DRAINING", "the hub is shutting down");
			const definition = this.define(pluginId, name);
			const group = await (this.#groups.get(key) ?? this.#openGroup(key, definition));
			if (group.ended || this.#stopped) continue;
			try {
				if (group.definition.revision === this.define(pluginId, name).revision) return await use(group);
				// It was reset, or deleted and made anew, while the group was opened.
				group.end(resetError(name), true);
			} finally {
				group.retire();
			}
		}
	}

	#openGroup(key: string, definition: DurableDefinition): Promise<ConsumerGroup> {
		const opening = this.#loadGroup(key, definition);
		this.#groups.set(key, opening);
		opening.then(
			(group) => {
				if (!group.ended) this.#open.set(key, group);
				// Its progress could not be stored while it was opened.
				else if (this.#groups.get(key) === opening) this.#groups.delete(key);
			},
			() => {
				if (this.#groups.get(key) === opening) this.#groups.delete(key);
			},
		);
		return opening;
	}

	async #loadGroup(key: string, definition: DurableDefinition): Promise<ConsumerGroup> {
		const { kv } = this.#options;
		const { filter: text } = definition.shown;
		// Compiled before: what is read of the store must be what the group begins with.
		const filter = text === "" ? undefined : await compileEventFilter(text, "filter");
		const stored = kv.get(durableKeys.progress(definition.pluginId, definition.name));
		if (stored === undefined) throw notFound(definition.name);
		const group: ConsumerGroup = await ConsumerGroup.open(
			{
				...this.#options,
				definition,
				filter,
				progressRevision: stored.revision,
				onEnd: () => this.#forget(key, group),
			},
			decodeProgress(stored.value),
		);
		return group;
	}

	#forget(key: string, group: ConsumerGroup): void {
		if (this.#open.get(key) !== group) return;
		this.#open.delete(key);
		this.#groups.delete(key);
		this.#redelivered += group.since.redelivered;
		this.#dead += group.since.dead;
		this.#lost += group.since.lost;
	}

	#endGroup(key: string, error: HubError): void {
		this.#open.get(key)?.end(error, true);
	}

	#show(definition: DurableDefinition): DurableSubscription {
		const { kv, log } = this.#options;
		const { pluginId, name, revision, shown } = definition;
		const group = this.#open.get(durableKeys.definition(pluginId, name));
		const current = group?.definition.revision === revision ? group : undefined;
		const stored = kv.get(durableKeys.progress(pluginId, name));
		const progress = current?.progress ?? (stored && decodeProgress(stored.value));
		return { ...shown, revision: BigInt(revision), status: progress && statusOf(progress, log, current) };
	}

	#expect(pluginId: string, name: string, expected: ExpectedRevision): DurableDefinition {
		const definition = this.define(pluginId, name);
		requireRevision(expected, definition.revision, { type: "durable subscription", name });
		return definition;
	}

	#isLive({ pluginId, registrationRevision }: DurableDefinition): boolean {
		return this.#options.kv.get(keys.registration(pluginId))?.createRevision === registrationRevision;
	}

	#requireRoom(pluginId: string): void {
		const { perPlugin } = DURABLE_LIMITS;
		const start = durableKeys.definitions(pluginId);
		const { entries } = this.#options.kv.range({ start, end: prefixEnd(start), limit: perPlugin });
		if (entries.length < perPlugin) return;
		throw new HubError("LIMIT_EXCEEDED", `there are ${perPlugin} durable subscriptions already`, {
			metadata: { limit: String(perPlugin) },
			quota: { subject: `plugin:${pluginId}`, description: `at most ${perPlugin} durable subscriptions` },
		});
	}

	/** Progress that begins at a sequence; counters go on. */
	#begin(cursor: number, before?: DurableProgress): Uint8Array {
		const { epoch } = this.#options.log;
		return encodeProgress({ epoch, cursor, unsettled: [], counters: before?.counters ?? newCounters() });
	}
}
