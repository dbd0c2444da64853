import { WireReader } from "../wire/wire-reader.ts";
import type { JudgedWrite } from "./entry-validators.ts";

/** An entry that is to be written, as validators see it. What is parsed is parsed when it is first read. */
export interface JudgedEntry {
	/** The store's name. */
	readonly store: string;
	readonly key: string;
	/** The new value, parsed from JSON; null where it is no JSON (`isJson` tells it from a JSON null). */
	readonly value: unknown;
	readonly isJson: boolean;
	/** The bytes of a value that is no JSON text. Must not be changed. */
	readonly binary: Uint8Array | undefined;
	/** The value that is there, parsed; null where there is none or it is no JSON. */
	readonly oldValue: unknown;
	/** Whether there is an entry already. */
	readonly exists: boolean;
	/** The id of the plugin that writes. */
	readonly writer: string;
}

interface Parsed {
	readonly value: unknown;
	readonly isJson: boolean;
}

const NO_JSON: Parsed = Object.freeze({ value: null, isJson: false });

export class EntryToJudge implements JudgedEntry {
	readonly #write: JudgedWrite;
	#new: Parsed | undefined;
	#old: Parsed | undefined;

	constructor(write: JudgedWrite) {
		this.#write = write;
	}

	get store(): string {
		return this.#write.store;
	}

	get key(): string {
		return this.#write.key;
	}

	get value(): unknown {
		return this.#parsedValue().value;
	}

	get isJson(): boolean {
		return this.#parsedValue().isJson;
	}

	get binary(): Uint8Array | undefined {
		return bodyOf(this.#write.value).binary;
	}

	get oldValue(): unknown {
		const { oldValue } = this.#write;
		this.#old ??= oldValue === undefined ? NO_JSON : parsed(oldValue);
		return this.#old.value;
	}

	get exists(): boolean {
		return this.#write.oldValue !== undefined;
	}

	get writer(): string {
		return this.#write.writer;
	}

	#parsedValue(): Parsed {
		this.#new ??= parsed(this.#write.value);
		return this.#new;
	}
}

function parsed(payload: Uint8Array): Parsed {
	const { json } = bodyOf(payload);
	if (json === undefined) return NO_JSON;
	try {
		return { value: JSON.parse(json), isJson: true };
	} catch {
		return NO_JSON;
	}
}

/** The body of a `Payload` in wire form; of several the last counts. */
function bodyOf(payload: Uint8Array): { json?: string; binary?: Uint8Array } {
	let body = {};
	const reader = new WireReader(payload);
	for (let field = reader.next(); field !== 0; field = reader.next()) {
		if (field === 1) body = { json: reader.string() };
		else if (field === 2) body = { binary: reader.view() };
		else reader.skip();
	}
	return body;
}
