import type { KvChange } from "./kv-store.ts";
import { SMALL_BYTES } from "./slabs.ts";

/** Bytes in a slab. Once asked for they hold on to it no longer, unless it is theirs alone. */
export class Piece {
	#slab: Buffer;
	#start: number;
	readonly #length: number;
	#isOwn: boolean;

	constructor(slab: Buffer, start: number, length: number) {
		this.#slab = slab;
		this.#start = start;
		this.#length = length;
		this.#isOwn = false;
	}

	bytes(): Uint8Array {
		if (this.#isOwn) return this.#slab;
		const end = this.#start + this.#length;
		const isShared = this.#length < this.#slab.byteLength && this.#length <= SMALL_BYTES;
		const bytes = this.#slab.subarray(this.#start, end);
		this.#slab = isShared ? Buffer.from(bytes) : bytes;
		this.#start = 0;
		this.#isOwn = true;
		return this.#slab;
	}
}

/** A change whose values are made when somebody asks. */
export class PackedChange implements KvChange {
	readonly key: string;
	readonly revision: number;
	readonly createRevision: number;
	readonly oldRevision: number;
	readonly lastOfCommit: boolean;
	readonly #value: Piece | undefined;
	readonly #oldValue: Piece | undefined;
	readonly #note: Piece | undefined;

	constructor(
		facts: Pick<KvChange, "key" | "revision" | "createRevision" | "oldRevision" | "lastOfCommit">,
		pieces: {
			readonly value?: Piece | undefined;
			readonly oldValue?: Piece | undefined;
			readonly note?: Piece | undefined;
		},
	) {
		this.key = facts.key;
		this.revision = facts.revision;
		this.createRevision = facts.createRevision;
		this.oldRevision = facts.oldRevision;
		this.lastOfCommit = facts.lastOfCommit;
		this.#value = pieces.value;
		this.#oldValue = pieces.oldValue;
		this.#note = pieces.note;
	}

	get value(): Uint8Array | undefined {
		return this.#value?.bytes();
	}

	get oldValue(): Uint8Array | undefined {
		return this.#oldValue?.bytes();
	}

	get note(): Uint8Array | undefined {
		return this.#note?.bytes();
	}
}
