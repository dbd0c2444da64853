import { createHash, type Hash } from "node:crypto";
import {
	create,
	type DescMessage,
	fromBinary,
	fromJson,
	type JsonValue,
	type MessageShape,
	toBinary,
	toJson,
} from "@bufbuild/protobuf";
import { type Entry, EntrySchema } from "#gen/qirvo/hub/v1/entries_pb.js";
import { type Store, StoreSchema } from "#gen/qirvo/hub/v1/stores_pb.js";
import { HubError } from "../hub-error.ts";

/** What the first line of a backup says it is. */
const FORMAT = "qirvo.hub.store";
const VERSION = 1;

/** The most bytes of a line. An entry whose text form is longer, by its escapes, is written as its wire form in base64. */
export const MAX_LINE_BYTES: number = 1536 * 1024;

/**
 * The lines of a backup of one store: JSON, UTF-8, each ended by a newline where they are kept in a file.
 *
 * - The first is `{"format", "version", "store"}`: the store in proto's JSON form, without revision, epoch and usage.
 * - Then one for each entry, in the order of the keys: `{"entry"}` in proto's JSON form without its revisions, or `{"wire"}`.
 * - The last is `{"entries", "sha256"}`: how many entries there are, and the digest of all lines before with their newlines.
 */
export class BackupWriter {
	readonly #hash = createHash("sha256");
	#entries = 0;

	/** Entries written so far. */
	get entries(): number {
		return this.#entries;
	}

	header(store: Store): string {
		const { name, owner, config, createTime, updateTime } = store;
		const shown = create(StoreSchema, { name, owner, config, createTime, updateTime });
		return this.#line({ format: FORMAT, version: VERSION, store: toJson(StoreSchema, shown) });
	}

	/** `entry` is an `Entry` in wire form. */
	entry(entry: Uint8Array): string {
		this.#entries++;
		const shown: Entry = { ...fromBinary(EntrySchema, entry), revision: 0n, createRevision: 0n };
		const line = JSON.stringify({ entry: toJson(EntrySchema, shown) });
		if (Buffer.byteLength(line) <= MAX_LINE_BYTES) return this.#add(line);
		return this.#line({ wire: Buffer.from(toBinary(EntrySchema, shown)).toString("base64") });
	}

	end(): string {
		return JSON.stringify({ entries: this.#entries, sha256: this.#hash.digest("hex") });
	}

	#line(value: JsonValue): string {
		return this.#add(JSON.stringify(value));
	}

	#add(line: string): string {
		count(this.#hash, line);
		return line;
	}
}

/** What one line of a backup says. Entries are without revisions. */
export type BackupLine =
	| { readonly kind: "store"; readonly store: Store }
	| { readonly kind: "entry"; readonly entry: Entry }
	| { readonly kind: "end" };

/** Reads the lines of a backup in their order. What is no backup, or a damaged one, is refused with INVALID_BACKUP. */
export class BackupReader {
	readonly #hash = createHash("sha256");
	#lines = 0;
	#entries = 0;
	#lastKey: Buffer | undefined;
	#ended = false;

	/** Entries read so far. */
	get entries(): number {
		return this.#entries;
	}

	/** Whether the last line was read, and what it says holds. */
	get ended(): boolean {
		return this.#ended;
	}

	read(line: string): BackupLine {
		this.#lines++;
		if (this.#ended) throw this.damaged("there is a line behind the last one");
		const value = this.#parse(line);
		if ("sha256" in value && this.#lines > 1) {
			this.#end(value);
			return { kind: "end" };
		}
		count(this.#hash, line);
		return this.#lines === 1 ? this.#header(value) : this.#entry(value);
	}

	/** A refusal of the line read last. */
	damaged(problem: string, cause?: unknown): HubError {
		return new HubError("INVALID_BACKUP", `line ${this.#lines} of the backup: ${problem}`, {
			metadata: { line: String(this.#lines) },
			cause,
		});
	}

	#parse(line: string): Readonly<Record<string, JsonValue>> {
		let value: unknown;
		try {
			value = JSON.parse(line);
		} catch (error) {
			throw this.damaged("is no JSON", error);
		}
		if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, JsonValue>;
		throw this.damaged("is no JSON object");
	}

	#header(value: Readonly<Record<string, JsonValue>>): BackupLine {
		if (value.format !== FORMAT) throw this.damaged("is not the first line of a backup of a store");
		if (value.version !== VERSION)
			throw this.damaged(`is of version ${value.version}; this hub reads version ${VERSION}`);
		return { kind: "store", store: this.#message(StoreSchema, value.store) };
	}

	#entry(value: Readonly<Record<string, JsonValue>>): BackupLine {
		const entry = typeof value.wire === "string" ? this.#wire(value.wire) : this.#message(EntrySchema, value.entry);
		const key = Buffer.from(entry.key);
		if (this.#lastKey !== undefined && this.#lastKey.compare(key) >= 0) throw this.damaged("its key is out of order");
		this.#lastKey = key;
		this.#entries++;
		return { kind: "entry", entry };
	}

	#wire(base64: string): Entry {
		try {
			return fromBinary(EntrySchema, Buffer.from(base64, "base64"));
		} catch (error) {
			throw this.damaged("holds no entry", error);
		}
	}

	#message<D extends DescMessage>(schema: D, json: JsonValue | undefined): MessageShape<D> {
		if (json === undefined) throw this.damaged(`holds no ${schema.name.toLowerCase()}`);
		try {
			return fromJson(schema, json);
		} catch (error) {
			throw this.damaged(
				`holds no ${schema.name.toLowerCase()}: ${error instanceof Error ? error.message : error}`,
				error,
			);
		}
	}

	#end({ entries, sha256 }: Readonly<Record<string, JsonValue>>): void {
		if (entries !== this.#entries) throw this.damaged(`says ${entries} entries, but there are ${this.#entries}`);
		if (sha256 !== this.#hash.digest("hex")) throw this.damaged("the digest is another one");
		this.#ended = true;
	}
}

function count(hash: Hash, line: string): void {
	hash.update(line);
	hash.update("\n");
}
