/** What a glob consists of: a text that must stand there, or a wildcard. */
export type GlobToken = { readonly text: string } | "*" | "**" | "?";

const SLASH = 0x2f;
const WORD = 32;

/**
 * Follows all ways through a glob at once. Each way is a bit: how many characters of the glob are done with, runs not counted. A
 * character of the key moves the ways on that accept it and keeps those where a run stands; 32 of them take one step.
 */
export class GlobAutomaton {
	/** Words that hold a bit for each character and one for the end. */
	readonly #words: number;
	/** By character, the ways that it moves on. */
	readonly #accepts = new Map<number, Uint32Array>();
	/** Those that any other character but `/` moves on. */
	readonly #acceptsOthers: Uint32Array;
	/** Where a run stands that has no `/`, and where one that may. */
	readonly #runs: Uint32Array;
	readonly #anyRuns: Uint32Array;
	readonly #end: number;

	constructor(tokens: readonly GlobToken[]) {
		const characters: (number | undefined)[] = [];
		const runs: { readonly at: number; readonly isAny: boolean }[] = [];
		for (const token of tokens) {
			if (token === "?") characters.push(undefined);
			else if (typeof token === "string") runs.push({ at: characters.length, isAny: token === "**" });
			else for (const character of token.text) characters.push(character.codePointAt(0)!);
		}
		this.#end = characters.length;
		this.#words = Math.floor(characters.length / WORD) + 1;
		this.#runs = this.#none();
		this.#anyRuns = this.#none();
		this.#acceptsOthers = this.#none();
		for (const { at, isAny } of runs) {
			put(this.#runs, at);
			if (isAny) put(this.#anyRuns, at);
		}
		for (const [at, character] of characters.entries()) if (character === undefined) put(this.#acceptsOthers, at);
		this.#accepts.set(SLASH, this.#none());
		for (const [at, character] of characters.entries()) {
			if (character === undefined) continue;
			let accepts = this.#accepts.get(character);
			if (accepts === undefined) {
				accepts = this.#acceptsOthers.slice();
				this.#accepts.set(character, accepts);
			}
			put(accepts, at);
		}
	}

	/** Whether the key from `start` to its end matches. */
	matches(key: string, start: number): boolean {
		const words = this.#words;
		const ways = this.#none();
		put(ways, 0);
		for (let at = start; at < key.length; ) {
			const character = key.codePointAt(at)!;
			at += character > 0xffff ? 2 : 1;
			const accepts = this.#accepts.get(character) ?? this.#acceptsOthers;
			const runs = character === SLASH ? this.#anyRuns : this.#runs;
			let carry = 0;
			let left = 0;
			for (let word = 0; word < words; word++) {
				const way = ways[word]!;
				const moved = way & accepts[word]!;
				const next = (moved << 1) | carry | (way & runs[word]!);
				carry = moved >>> (WORD - 1);
				ways[word] = next;
				left |= next;
			}
			if (left === 0) return false;
		}
		return has(ways, this.#end);
	}

	#none(): Uint32Array {
		return new Uint32Array(this.#words);
	}
}

function put(bits: Uint32Array, at: number): void {
	const word = Math.floor(at / WORD);
	bits[word] = bits[word]! | (1 << (at % WORD));
}

function has(bits: Uint32Array, at: number): boolean {
	return (bits[Math.floor(at / WORD)]! & (1 << (at % WORD))) !== 0;
}
