import type { Reason } from "../../src/hub-error.ts";

/** What a plugin asks for, in the terms of the model. */
export interface ModelWrite {
	readonly kind: "set" | "delete" | "increment" | "append";
	readonly store: string;
	readonly key: string;
	/** Of a set, any JSON; else a number or an element. */
	readonly value: unknown;
	readonly ttlMs: number | undefined;
	readonly instanceId: string;
	readonly expected: ModelExpected;
}

export type ModelExpected = "any" | "absent" | "exists" | { readonly revision: number };

export interface ModelUnit {
	readonly writer: string;
	readonly checks: readonly { readonly store: string; readonly key: string; readonly expected: ModelExpected }[];
	readonly writes: readonly ModelWrite[];
}

/** A value that was or is there. */
interface ModelVersion {
	readonly text: string;
	readonly writer: string;
	readonly instanceId: string;
	readonly created: number;
	readonly updated: number;
	/** 0: never. */
	readonly expires: number;
	/** As the stores said. */
	revision: number;
	/** How it ended, where nothing followed it. */
	end?: { readonly cause: "deleted" | "expired" | "lease"; readonly actor: string };
}

interface ModelKey {
	present: ModelVersion | undefined;
	/** Behind the present one, the newest first. */
	older: ModelVersion[];
	/** Of a key that was deleted while the store kept a history. */
	buried: ModelVersion[];
}

export interface ModelConfig {
	readonly persistent: boolean;
	readonly history: number;
	readonly defaultTtlMs: number;
	readonly maxKeys: number;
	readonly maxBytes: number;
	readonly pluginMaxKeys: number;
	readonly pluginMaxBytes: number;
}

export interface ModelStore {
	config: ModelConfig;
	owner: string;
	readonly keys: Map<string, ModelKey>;
}

/** What a unit comes to: of each write whether it changes something, and the number; or why it is refused. */
export type ModelOutcome =
	| { readonly refused: Reason }
	| { readonly results: readonly { readonly changed: boolean; readonly number: number | undefined }[] };

/** Stores as anybody would write them who has neither to keep them nor to share them. */
export class StoreModel {
	readonly stores = new Map<string, ModelStore>();
	readonly live: ReadonlySet<string>;
	/** The versions that the last unit has made, by its writes. */
	made: (ModelVersion | undefined)[] = [];

	constructor(live: ReadonlySet<string>) {
		this.live = live;
	}

	isOver(version: ModelVersion, now: number): "expired" | "lease" | undefined {
		if (version.expires !== 0 && version.expires <= now) return "expired";
		if (version.instanceId !== "" && !this.live.has(`${version.writer}/${version.instanceId}`)) return "lease";
		return undefined;
	}

	/** What a reader sees. */
	shown(store: string, key: string, now: number): ModelVersion | undefined {
		const present = this.stores.get(store)?.keys.get(key)?.present;
		return present === undefined || this.isOver(present, now) ? undefined : present;
	}

	/** What is counted: of all, or of one plugin. What is over counts until it is ended. */
	usage(store: string, writer?: string): { keys: number; bytes: number } {
		const usage = { keys: 0, bytes: 0 };
		for (const [key, { present }] of this.stores.get(store)!.keys) {
			if (present === undefined || (writer !== undefined && present.writer !== writer)) continue;
			usage.keys++;
			usage.bytes += Buffer.byteLength(key) + Buffer.byteLength(present.text);
		}
		return usage;
	}

	/** `cause:actor:text`, the newest first. */
	history(store: string, key: string): string[] {
		const { keys, config } = this.stores.get(store)!;
		const known = keys.get(key);
		if (known === undefined) return [];
		const { present, older, buried } = known;
		const rest = (present === undefined ? buried : older).slice(0, config.history - 1);
		return [...(present === undefined ? [] : [present]), ...rest].flatMap(({ end, writer, text, revision }) => [
			...(end === undefined ? [] : [`${end.cause}:${end.actor}`]),
			`set:${writer}:${text}:${revision}`,
		]);
	}

	/** Ends everything that is over. */
	endAll(now: number): void {
		for (const [name, { keys }] of this.stores) {
			for (const [key, { present }] of keys) {
				const cause = present && this.isOver(present, now);
				if (cause !== undefined) this.#end(name, key, { cause, actor: "" });
			}
		}
	}

	/** Ends what lives by an instance that has ended, whether its time is over or not. */
	endLeases(now: number): void {
		for (const [name, { keys }] of this.stores) {
			for (const [key, { present }] of keys) {
				if (present === undefined || present.instanceId === "") continue;
				if (this.live.has(`${present.writer}/${present.instanceId}`)) continue;
				this.#end(name, key, { cause: this.isOver(present, now)!, actor: "" });
			}
		}
	}

	apply(unit: ModelUnit, now: number): ModelOutcome {
		const { writes, checks, writer } = unit;
		this.made = [];
		for (const { store } of [...checks, ...writes]) if (!this.stores.has(store)) return { refused: "STORE_NOT_FOUND" };
		const kinds = new Set([...checks, ...writes].map(({ store }) => this.stores.get(store)!.config.persistent));
		if (kinds.size > 1) return { refused: "MIXED_PERSISTENCE" };
		const holds = [...checks, ...writes].every(({ store, key, expected }) =>
			meets(expected, this.shown(store, key, now)?.revision ?? 0),
		);
		if (!holds) return { refused: "REVISION_MISMATCH" };
		for (const { kind, store, key } of writes) {
			const present = this.#key(store, key).present;
			const cause = present && this.isOver(present, now);
			if (cause !== undefined && kind !== "delete") this.#end(store, key, { cause, actor: "" });
		}
		const before = structuredClone(this.stores);
		const shares = new Map(writes.map(({ store }) => [store, [this.usage(store), this.usage(store, writer)] as const]));
		const results = [];
		for (const write of writes) {
			const outcome = this.#write(write, writer, now);
			if (typeof outcome !== "string") {
				results.push(outcome);
				continue;
			}
			this.#restore(before);
			return { refused: outcome };
		}
		for (const [store, [total, share]] of shares) {
			const { config } = this.stores.get(store)!;
			const most = { keys: config.maxKeys, bytes: config.maxBytes };
			const mostOfOne = { keys: config.pluginMaxKeys, bytes: config.pluginMaxBytes };
			const isOver = exceeds(this.usage(store), total, most) || exceeds(this.usage(store, writer), share, mostOfOne);
			if (!isOver) continue;
			this.#restore(before);
			return { refused: "QUOTA_EXCEEDED" };
		}
		return { results };
	}

	#write(write: ModelWrite, writer: string, now: number) {
		const { kind, store, key, value, ttlMs, instanceId } = write;
		const { config } = this.stores.get(store)!;
		const old = this.shown(store, key, now);
		const expires = (ms: number) => (ms === 0 ? 0 : now + ms);
		if (kind === "delete") {
			this.made.push(undefined);
			if (old === undefined) return { changed: false, number: undefined };
			this.#end(store, key, { cause: "deleted", actor: writer });
			return { changed: true, number: undefined };
		}
		if (kind === "set") {
			if (instanceId !== "" && !this.live.has(`${writer}/${instanceId}`)) return "INSTANCE_NOT_FOUND";
			const end = expires(ttlMs ?? config.defaultTtlMs);
			this.#put(store, key, { text: JSON.stringify(value), writer, instanceId, expires: end, now });
			return { changed: true, number: undefined };
		}
		const end = ttlMs === undefined && old !== undefined ? old.expires : expires(ttlMs ?? config.defaultTtlMs);
		const rest = { writer, instanceId: old?.writer === writer ? old.instanceId : "", expires: end, now };
		const present = old === undefined ? undefined : JSON.parse(old.text);
		if (kind === "increment") {
			if (present !== undefined && !Number.isSafeInteger(present)) return "VALUE_MISMATCH";
			const number = (present ?? 0) + (value as number);
			this.#put(store, key, { text: String(number), ...rest });
			return { changed: true, number };
		}
		if (present !== undefined && !Array.isArray(present)) return "VALUE_MISMATCH";
		const array = (present ?? []) as unknown[];
		if (array.some((item) => JSON.stringify(item) === JSON.stringify(value))) {
			this.made.push(undefined);
			return { changed: false, number: undefined };
		}
		this.#put(store, key, { text: JSON.stringify([...array, value]), ...rest });
		return { changed: true, number: undefined };
	}

	#put(
		store: string,
		name: string,
		{ now, ...rest }: Pick<ModelVersion, "text" | "writer" | "instanceId" | "expires"> & { now: number },
	): void {
		const kept = this.stores.get(store)!.config.history - 1;
		const key = this.#key(store, name);
		const { present } = key;
		if (present !== undefined) key.older = kept === 0 ? [] : [present, ...key.older].slice(0, kept);
		else if (kept > 0) {
			key.older = key.buried.slice(0, kept);
			key.buried = [];
		}
		key.present = { ...rest, created: present?.created ?? now, updated: now, revision: 0 };
		this.made.push(key.present);
	}

	#end(store: string, name: string, end: NonNullable<ModelVersion["end"]>): void {
		const kept = this.stores.get(store)!.config.history - 1;
		const key = this.#key(store, name);
		const ended = { ...key.present!, end };
		if (kept > 0) key.buried = [ended, ...key.older].slice(0, kept);
		key.present = undefined;
		key.older = [];
	}

	#key(store: string, name: string): ModelKey {
		const { keys } = this.stores.get(store)!;
		let key = keys.get(name);
		if (key === undefined) {
			key = { present: undefined, older: [], buried: [] };
			keys.set(name, key);
		}
		return key;
	}

	#restore(before: Map<string, ModelStore>): void {
		this.made = [];
		this.stores.clear();
		for (const [name, store] of before) this.stores.set(name, store);
	}
}

function meets(expected: ModelExpected, revision: number): boolean {
	if (expected === "any") return true;
	if (expected === "absent") return revision === 0;
	if (expected === "exists") return revision !== 0;
	return revision !== 0 && expected.revision === revision;
}

function exceeds(
	after: { keys: number; bytes: number },
	before: { keys: number; bytes: number },
	most: { keys: number; bytes: number },
): boolean {
	return (
		(after.keys > most.keys && after.keys > before.keys) || (after.bytes > most.bytes && after.bytes > before.bytes)
	);
}
