import { hash } from "node:crypto";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { TopicRecordSchema } from "#gen/qirvo/hub/storage/v1/records_pb.js";
import type { Clock } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import type { CommitQueue } from "../state/commit-queue.ts";
import { prefixes } from "../state/key-layout.ts";
import type { KvEntry, KvStore } from "../state/kv-store.ts";
import { prefixEnd } from "../state/state-backend.ts";
import { type Pattern, parsePattern } from "../subjects/pattern.ts";
import { PatternTrie } from "../subjects/pattern-trie.ts";
import type { RecipientDirectory } from "./address.ts";

/** That a plugin gets what is published to the topics that a pattern matches. */
export interface TopicMembership {
	readonly pluginId: string;
	readonly pattern: Pattern;
	/** Milliseconds since the Unix epoch. */
	readonly createTime: number;
}

export interface TopicMembersOptions {
	readonly kv: KvStore;
	/** Shared with whoever else writes messages. */
	readonly queue: CommitQueue;
	readonly clock: Clock;
	readonly directory: RecipientDirectory;
	/** A background task has failed; what it should have deleted is deleted at the next start. */
	readonly onFault?: (what: string, error: unknown) => void;
}

/** Subscriptions of one plugin. */
export const MAX_TOPICS_PER_PLUGIN = 1000;

const PAGE = 1000;
const DELETES = 500;

interface Member extends TopicMembership {
	/** Settles once it is stored. */
	readonly stored: Promise<void>;
	/** Undefined until it is stored. */
	place: Disposable | undefined;
}

/**
 * Who is subscribed to which topics. Stored, and in memory for looking up.
 *
 * - TM-1 A subscription counts from the moment it is stored, and no longer from the moment its end is asked for; where that
 *   cannot be stored it counts again.
 * - TM-2 The subscriptions of a plugin go with its registration: another of its id does not inherit them.
 * - TM-3 A plugin is found once for a topic, however many of its patterns match.
 */
export class TopicMembers implements Disposable {
	readonly #kv: KvStore;
	readonly #queue: CommitQueue;
	readonly #clock: Clock;
	readonly #directory: RecipientDirectory;
	readonly #onFault: (what: string, error: unknown) => void;
	/** By plugin, then by the canonical form of the pattern. */
	readonly #members = new Map<string, Map<string, Member>>();
	readonly #trie = new PatternTrie<string>();
	readonly #removals: Disposable;

	constructor(options: TopicMembersOptions) {
		this.#kv = options.kv;
		this.#queue = options.queue;
		this.#clock = options.clock;
		this.#directory = options.directory;
		this.#onFault = options.onFault ?? (() => {});
		this.#removals = options.directory.onRemoved((pluginId) => this.#remove(pluginId));
	}

	/** Takes over what is stored. Once, before anything else; `directory` must be complete. */
	start(): void {
		const gone = new Set<string>();
		for (const entry of this.#entries()) {
			const pluginId = entry.key.slice(prefixes.topics.length, entry.key.lastIndexOf("/"));
			const record = fromBinary(TopicRecordSchema, entry.value);
			const pattern = parsePattern(record.pattern, "pattern");
			const createTime = Number(record.createTimeMs);
			const place = this.#trie.add(pattern, pluginId);
			this.#of(pluginId).set(pattern.canonical, {
				pluginId,
				pattern,
				createTime,
				stored: Promise.resolve(),
				place,
			});
			if (this.#directory.lookup(pluginId) === "unknown") gone.add(pluginId);
		}
		for (const pluginId of gone) this.#remove(pluginId);
	}

	/** Subscriptions of all plugins, as far as they are stored. */
	get size(): number {
		return this.#trie.size;
	}

	/**
	 * Resolves once the subscription is stored; `duplicate`: it was there already. Rejects with PLUGIN_NOT_REGISTERED, LIMIT_EXCEEDED and the
	 * storage's error.
	 */
	async subscribe(
		pluginId: string,
		pattern: Pattern,
	): Promise<{ readonly membership: TopicMembership; readonly duplicate: boolean }> {
		const known = this.#members.get(pluginId)?.get(pattern.canonical);
		if (known !== undefined) {
			await known.stored;
			return { membership: known, duplicate: true };
		}
		// A subscription that outlives its plugin would be inherited by another of its id.
		if (this.#directory.lookup(pluginId) === "unknown") {
			throw new HubError("PLUGIN_NOT_REGISTERED", `plugin "${pluginId}" is not registered`);
		}
		if ((this.#members.get(pluginId)?.size ?? 0) >= MAX_TOPICS_PER_PLUGIN) throw tooMany(pluginId);
		const createTime = this.#clock.now();
		const record = create(TopicRecordSchema, { pattern: pattern.spelling, createTimeMs: BigInt(createTime) });
		const stored = this.#queue.store([{ key: keyOf(pluginId, pattern), value: toBinary(TopicRecordSchema, record) }]);
		const member: Member = { pluginId, pattern, createTime, stored, place: undefined };
		this.#of(pluginId).set(pattern.canonical, member);
		try {
			await stored;
		} catch (error) {
			this.#forget(member);
			throw error;
		}
		if (this.#members.get(pluginId)?.get(pattern.canonical) === member) this.#place(member);
		return { membership: member, duplicate: false };
	}

	/** False: there was no such subscription. Resolves once its end is stored; rejects with the storage's error (TM-1). */
	async unsubscribe(pluginId: string, pattern: Pattern): Promise<boolean> {
		const member = this.#members.get(pluginId)?.get(pattern.canonical);
		if (member === undefined) return false;
		this.#forget(member);
		try {
			await this.#queue.store([{ key: keyOf(pluginId, pattern), delete: true }]);
		} catch (error) {
			const isFree = this.#members.get(pluginId)?.has(pattern.canonical) !== true;
			if (isFree && this.#directory.lookup(pluginId) !== "unknown") {
				this.#of(pluginId).set(pattern.canonical, member);
				this.#place(member);
			}
			throw error;
		}
		return true;
	}

	/** TM-3. The plugins that are subscribed to the topic of this canonical form. Not to be changed; does not change. */
	subscribers(canonical: string): readonly string[] {
		return this.#trie.match(canonical);
	}

	/**
	 * Up to `limit` subscriptions after `after`, by plugin and pattern; of one plugin, or of all where `pluginId` is empty. The
	 * next page begins after `next`; empty: there is none.
	 */
	list(
		pluginId: string,
		limit: number,
		after: string,
	): { readonly page: readonly TopicMembership[]; readonly next: string } {
		const [afterPlugin = "", afterPattern = ""] = after.split("\n");
		const page: TopicMembership[] = [];
		const plugins = pluginId === "" ? [...this.#members.keys()].sort() : [pluginId];
		for (const id of plugins) {
			if (id < afterPlugin) continue;
			const members = this.#members.get(id) ?? new Map<string, Member>();
			for (const canonical of [...members.keys()].sort()) {
				const member = members.get(canonical)!;
				if (member.place === undefined || (id === afterPlugin && canonical <= afterPattern)) continue;
				const last = page.at(-1);
				if (page.length === limit) return { page, next: `${last!.pluginId}\n${last!.pattern.canonical}` };
				page.push(member);
			}
		}
		return { page, next: "" };
	}

	[Symbol.dispose](): void {
		this.#removals[Symbol.dispose]();
	}

	/** TM-2. */
	#remove(pluginId: string): void {
		const members = [...(this.#members.get(pluginId)?.values() ?? [])];
		for (const member of members) this.#forget(member);
		const doomed = members.map(({ pattern }) => ({ key: keyOf(pluginId, pattern), delete: true as const }));
		for (let from = 0; from < doomed.length; from += DELETES) {
			this.#queue
				.store(doomed.slice(from, from + DELETES))
				.catch((error: unknown) => this.#onFault("deleting the topic subscriptions of a plugin", error));
		}
	}

	#of(pluginId: string): Map<string, Member> {
		let members = this.#members.get(pluginId);
		if (members === undefined) {
			members = new Map();
			this.#members.set(pluginId, members);
		}
		return members;
	}

	#place(member: Member): void {
		member.place = this.#trie.add(member.pattern, member.pluginId);
	}

	/** One that was made anew since then stays. */
	#forget(member: Member): void {
		member.place?.[Symbol.dispose]();
		member.place = undefined;
		const members = this.#members.get(member.pluginId);
		if (members?.get(member.pattern.canonical) !== member) return;
		members.delete(member.pattern.canonical);
		if (members.size === 0) this.#members.delete(member.pluginId);
	}

	*#entries(): Generator<KvEntry, void, undefined> {
		const end = prefixEnd(prefixes.topics);
		for (let start: string = prefixes.topics; ; ) {
			const page = this.#kv.range({ start, end, limit: PAGE });
			yield* page.entries;
			if (!page.more) return;
			start = `${page.entries.at(-1)!.key}\u0000`;
		}
	}
}

/** A pattern may be longer than a key. */
function keyOf(pluginId: string, { canonical }: Pattern): string {
	return `${prefixes.topics}${pluginId}/${hash("sha256", canonical, "hex")}`;
}

function tooMany(pluginId: string): HubError {
	return new HubError("LIMIT_EXCEEDED", `the plugin has ${MAX_TOPICS_PER_PLUGIN} subscriptions to topics already`, {
		metadata: { limit: String(MAX_TOPICS_PER_PLUGIN) },
		quota: { subject: `plugin:${pluginId}`, description: "subscriptions to topics" },
	});
}
