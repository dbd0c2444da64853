import { HubError } from "../hub-error.ts";
import { WireReader } from "../wire/wire-reader.ts";
import type { EntryWriteKind } from "./entry-operations.ts";

export type PipelineKind = "get" | "transact" | EntryWriteKind;

/** Fields of `PipelineOperation`. */
const KINDS = [undefined, undefined, "get", "set", "delete", "increment", "append", "transact"] as const;

const MAX_OPERATIONS = 4096;
const NOTHING = Buffer.alloc(0);

/**
 * The operations of one `PipelineRequest` after another: of each its id, what it is, and where that is, not yet looked into. Nothing
 * is made for an operation: they come by the ten thousand.
 */
export class PipelineOperations {
	readonly #reader = new WireReader(NOTHING);
	readonly #ids: (number | bigint)[] = [];
	/** Fields of `PipelineOperation`; 0: it says nothing. */
	readonly #fields: number[] = [];
	readonly #starts: number[] = [];
	readonly #ends: number[] = [];
	#frame: Buffer = NOTHING;
	#length = 0;

	/** How many there are. */
	get length(): number {
		return this.#length;
	}

	/** Takes a frame in the place of the one before. Refuses one of none or too many. */
	read(frame: Uint8Array): void {
		const reader = this.#reader;
		reader.begin(frame);
		this.#frame = reader.bytes;
		this.#length = 0;
		for (let number = reader.next(); number !== 0; number = reader.next()) {
			if (number !== 1) {
				reader.skip();
				continue;
			}
			if (this.#length === MAX_OPERATIONS) {
				throw HubError.field("operations", `has more than ${MAX_OPERATIONS} operations`);
			}
			this.#readOperation(this.#length++);
		}
		if (this.#length === 0) throw HubError.field("operations", "is empty");
	}

	/** Lets the frame go: the next one may be long in coming. */
	clear(): void {
		this.#reader.begin(NOTHING);
		this.#frame = NOTHING;
		this.#length = 0;
	}

	id(at: number): number | bigint {
		return this.#ids[at]!;
	}

	/** Undefined: it says nothing. */
	kind(at: number): PipelineKind | undefined {
		return KINDS[this.#fields[at]!];
	}

	/** A reader of what the operation says. The same for all: it is to be read before the next one is asked for. */
	body(at: number): WireReader {
		this.#reader.begin(this.#frame, this.#starts[at]!, this.#ends[at]!);
		return this.#reader;
	}

	#readOperation(at: number): void {
		const reader = this.#reader;
		const frameEnd = reader.end;
		const end = reader.delimited();
		reader.end = end;
		this.#ids[at] = 0;
		this.#fields[at] = 0;
		this.#starts[at] = end;
		this.#ends[at] = end;
		for (let number = reader.next(); number !== 0; number = reader.next()) {
			if (number === 1) this.#ids[at] = reader.uint64();
			else if (KINDS[number] === undefined) reader.skip();
			else {
				this.#fields[at] = number;
				this.#ends[at] = reader.delimited();
				this.#starts[at] = reader.pos;
				reader.pos = this.#ends[at]!;
			}
		}
		reader.end = frameEnd;
	}
}
