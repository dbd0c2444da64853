import type { Environment } from "./environment.ts";
import { LAST_SEQUENCE, type LogKeys } from "./log-keys.ts";

/** Index entries read at once; each names all blocks of one group. */
const READ_AHEAD = 64;

/**
 * Which blocks hold a topic. One entry a topic and group: the key names the group's last block with the topic, the value
 * the distances back to the others. An entry goes when its last block does; a block named by it may be gone before.
 */
export class TopicIndex {
	readonly #environment: Environment;
	readonly #keys: LogKeys;

	constructor(environment: Environment, keys: LogKeys) {
		this.#environment = environment;
		this.#keys = keys;
	}

	/**
	 * In the transaction: adds a group's blocks, by topic, in rising order. Topics of one hash share an entry: two of them in
	 * each other's place would hide blocks from their readers.
	 */
	write(blocksByTopic: ReadonlyMap<string, readonly number[]>): void {
		const byHash = new Map<string, { readonly topic: string; readonly blocks: readonly number[] }>();
		for (const [topic, own] of blocksByTopic) {
			const hash = this.#keys.topic(topic, 0).toString("latin1");
			const twin = byHash.get(hash)?.blocks;
			const blocks = twin === undefined ? own : [...new Set([...twin, ...own])].sort((a, b) => a - b);
			byHash.set(hash, { topic, blocks });
		}
		for (const { topic, blocks } of byHash.values()) {
			const last = blocks.at(-1)!;
			const value = Buffer.allocUnsafe((blocks.length - 1) * 4);
			for (let index = 0; index < blocks.length - 1; index++) value.writeUInt32LE(last - blocks[index]!, index * 4);
			this.#environment.topics.put(this.#keys.topic(topic, last), value);
		}
	}

	/** In the transaction: drops the entries that end in a block. */
	remove(topics: readonly string[], block: number): void {
		for (const topic of topics) this.#environment.topics.remove(this.#keys.topic(topic, block));
	}

	/**
	 * Blocks from `block` on (or back) that may hold one of the topics, nearest first, and how far the answer is complete:
	 * past `horizon` there may be more.
	 */
	blocks(
		topics: readonly string[],
		block: number,
		direction: "forward" | "backward",
	): { readonly blocks: readonly number[]; readonly horizon: number } {
		const forward = direction === "forward";
		const found = new Set<number>();
		let horizon = forward ? LAST_SEQUENCE : 0;
		for (const topic of new Set(topics)) {
			const reached = forward ? this.#forward(topic, block, found) : this.#backward(topic, block, found);
			horizon = forward ? Math.min(horizon, reached) : Math.max(horizon, reached);
		}
		const inside = [...found].filter((at) => (forward ? at <= horizon : at >= horizon));
		return { blocks: inside.sort((a, b) => (forward ? a - b : b - a)), horizon };
	}

	#forward(topic: string, block: number, found: Set<number>): number {
		const range = { start: this.#keys.topic(topic, block), end: this.#keys.topic(topic, LAST_SEQUENCE) };
		let entries = 0;
		let reached = LAST_SEQUENCE;
		for (const { key, value } of this.#environment.topics.getRange({ ...range, limit: READ_AHEAD })) {
			reached = this.#add(key, value, found, (at) => at >= block);
			entries++;
		}
		return entries < READ_AHEAD ? LAST_SEQUENCE : reached;
	}

	/** An entry that ends past `block` may name blocks before it, so the group around `block` is read too. */
	#backward(topic: string, block: number, found: Set<number>): number {
		const around = { start: this.#keys.topic(topic, block), end: this.#keys.topic(topic, LAST_SEQUENCE), limit: 1 };
		for (const { key, value } of this.#environment.topics.getRange(around)) {
			this.#add(key, value, found, (at) => at <= block);
		}
		const range = { start: this.#keys.topic(topic, block), end: this.#keys.topic(topic, 0), reverse: true };
		let entries = 0;
		let reached = 0;
		for (const { key, value } of this.#environment.topics.getRange({ ...range, limit: READ_AHEAD })) {
			this.#add(key, value, found, () => true);
			// The next entry back is of an earlier group, all of whose blocks come before this one's.
			reached = this.#first(key, value);
			entries++;
		}
		return entries < READ_AHEAD ? 0 : reached;
	}

	#add(key: Uint8Array, value: Uint8Array, found: Set<number>, wanted: (block: number) => boolean): number {
		const last = this.#keys.sequenceOf(key)!;
		const back = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
		for (let at = 0; at < back.length; at += 4) {
			const block = last - back.readUInt32LE(at);
			if (wanted(block)) found.add(block);
		}
		if (wanted(last)) found.add(last);
		return last;
	}

	#first(key: Uint8Array, value: Uint8Array): number {
		const last = this.#keys.sequenceOf(key)!;
		const back = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
		return back.length === 0 ? last : last - back.readUInt32LE(0);
	}
}
