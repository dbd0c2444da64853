import type { Pattern } from "./pattern.ts";

/** The match cache is dropped when it would hold more results than this. */
const CACHED_RESULTS = 4096;
/** The match cache is dropped when its results would hold more values than this (8 bytes each). */
const CACHED_VALUES = 1 << 18;

const NONE: readonly never[] = Object.freeze([]);

/** Values and how often each was added: one of many is found at once when it leaves. */
type Values<T> = Map<T, number>;

/** One token position of the wildcard patterns. Only what exists is allocated. */
class Node<T> {
	children: Map<string, Node<T>> | undefined;
	star: Node<T> | undefined;
	/** Values of the patterns that end here. */
	here: Values<T> | undefined;
	/** Values of the patterns that end here with `**`. */
	open: Values<T> | undefined;

	get empty(): boolean {
		return this.children === undefined && this.star === undefined && this.here === undefined && this.open === undefined;
	}
}

/**
 * Values filed under patterns, found by the subjects that the patterns match.
 *
 * Patterns without wildcards are one map entry each; the others share a trie that is walked token by token, and no node
 * is visited twice. What a subject matched is remembered until the next change.
 */
export class PatternTrie<T> {
	readonly #exact = new Map<string, Values<T>>();
	readonly #root = new Node<T>();
	readonly #cache = new Map<string, readonly T[]>();
	#cachedValues = 0;
	#size = 0;
	#nodes = 0;

	/** Pairs of pattern and value held. */
	get size(): number {
		return this.#size;
	}

	/** Map entries and trie nodes held; 0 once everything was removed. */
	get nodes(): number {
		return this.#nodes + this.#exact.size;
	}

	/** Files `value` under `pattern` until the result is disposed. The same pair may be added again, each on its own. */
	add(pattern: Pattern, value: T): Disposable {
		if (pattern.isExact) {
			this.#exact.set(pattern.canonical, including(this.#exact.get(pattern.canonical), value));
		} else {
			let node = this.#root;
			for (const token of pattern.prefix) node = this.#childFor(node, token);
			if (pattern.open) node.open = including(node.open, value);
			else node.here = including(node.here, value);
		}
		this.#size++;
		this.#forget();
		let filed = true;
		return {
			[Symbol.dispose]: () => {
				if (!filed) return;
				filed = false;
				this.#remove(pattern, value);
			},
		};
	}

	/**
	 * The values under every pattern that matches the subject of this canonical form, each once. The array is shared: it is
	 * not to be changed, and it does not change when patterns come and go.
	 */
	match(canonical: string): readonly T[] {
		const known = this.#cache.get(canonical);
		if (known !== undefined) return known;
		const found = this.#find(canonical);
		if (this.#cache.size >= CACHED_RESULTS || this.#cachedValues + found.length > CACHED_VALUES) this.#forget();
		this.#cache.set(canonical, found);
		this.#cachedValues += found.length;
		return found;
	}

	#find(canonical: string): readonly T[] {
		const exact = this.#exact.get(canonical);
		const found: T[] = exact === undefined ? [] : [...exact.keys()];
		if (!this.#root.empty) collect(this.#root, canonical, 0, found);
		if (found.length === 0) return NONE;
		return found.length === 1 ? found : [...new Set(found)];
	}

	#childFor(node: Node<T>, token: string): Node<T> {
		let child = token === "*" ? node.star : node.children?.get(token);
		if (child !== undefined) return child;
		child = new Node<T>();
		this.#nodes++;
		if (token === "*") {
			node.star = child;
		} else {
			node.children ??= new Map();
			node.children.set(token, child);
		}
		return child;
	}

	#remove(pattern: Pattern, value: T): void {
		this.#size--;
		this.#forget();
		if (pattern.isExact) {
			if (without(this.#exact.get(pattern.canonical)!, value) === undefined) this.#exact.delete(pattern.canonical);
			return;
		}
		const path = [this.#root];
		for (const token of pattern.prefix) {
			const node = path.at(-1)!;
			path.push(token === "*" ? node.star! : node.children!.get(token)!);
		}
		const last = path.at(-1)!;
		if (pattern.open) last.open = without(last.open!, value);
		else last.here = without(last.here!, value);
		for (let depth = path.length - 1; depth > 0 && path[depth]!.empty; depth--) {
			const parent = path[depth - 1]!;
			const token = pattern.prefix[depth - 1]!;
			this.#nodes--;
			if (token === "*") {
				parent.star = undefined;
			} else {
				parent.children!.delete(token);
				if (parent.children!.size === 0) parent.children = undefined;
			}
		}
	}

	#forget(): void {
		if (this.#cache.size === 0) return;
		this.#cache.clear();
		this.#cachedValues = 0;
	}
}

/** Walks the nodes that the subject's tokens from `at` on lead to. Depth is bounded by the 16 tokens of a pattern. */
function collect<T>(node: Node<T>, canonical: string, at: number, found: T[]): void {
	if (node.open !== undefined) for (const value of node.open.keys()) found.push(value);
	if (at > canonical.length) {
		if (node.here !== undefined) for (const value of node.here.keys()) found.push(value);
		return;
	}
	if (node.children === undefined && node.star === undefined) return;
	const dot = canonical.indexOf(".", at);
	const end = dot < 0 ? canonical.length : dot;
	const child = node.children?.get(canonical.slice(at, end));
	if (child !== undefined) collect(child, canonical, end + 1, found);
	if (node.star !== undefined) collect(node.star, canonical, end + 1, found);
}

function including<T>(values: Values<T> | undefined, value: T): Values<T> {
	return (values ?? new Map<T, number>()).set(value, (values?.get(value) ?? 0) + 1);
}

/** Takes one occurrence of `value` out of `values`; undefined where nothing is left. */
function without<T>(values: Values<T>, value: T): Values<T> | undefined {
	const count = values.get(value)!;
	if (count > 1) values.set(value, count - 1);
	else values.delete(value);
	return values.size === 0 ? undefined : values;
}
