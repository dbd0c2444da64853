import type { Entry } from "#gen/qirvo/hub/v1/entries_pb.js";
import { toDate } from "./durations.ts";
import { type Data, dataOf } from "./payload.ts";
import { type Checked, checkValue, type StoreSchema } from "./store-schema.ts";
import { WireEntry } from "./wire-entry.ts";

/** An entry in either form, as transports give it. */
export type AnyEntry = Entry | WireEntry;

/** One entry of a store as it was read. A thin view: value and dates are made when they are asked for. */
export class StoreEntry<T = Data> {
	readonly #entry: AnyEntry;
	#checked: Checked<T> | undefined;

	/** `checked` is what the store's schema made of the value. */
	constructor(entry: AnyEntry, checked?: Checked<T>) {
		this.#entry = entry;
		this.#checked = checked;
	}

	/** The entry as the contract has it, decoded as a whole. */
	get raw(): Entry {
		return this.#entry instanceof WireEntry ? this.#entry.message : this.#entry;
	}

	get key(): string {
		return this.#entry.key;
	}

	/**
	 * The JSON value, or the bytes, or what the store's schema made of them. Throws the VALIDATION_FAILED where the schema refused
	 * the value.
	 */
	get value(): T {
		this.#checked ??= { value: this.data as T };
		if ("error" in this.#checked) throw this.#checked.error;
		return this.#checked.value;
	}

	/** The JSON value, parsed anew, or the bytes: whatever the schema says. */
	get data(): Data {
		if (!(this.#entry instanceof WireEntry)) return dataOf(this.#entry.value);
		const { json } = this.#entry;
		return json === undefined ? this.#entry.binary : JSON.parse(json);
	}

	/** Of the write that made this value: what the next write may expect. */
	get revision(): bigint {
		return this.#entry.revision;
	}

	/** Of the write that brought the key to life. */
	get createRevision(): bigint {
		return this.raw.createRevision;
	}

	/** The plugin that wrote this value. */
	get writer(): string {
		return this.raw.writer;
	}

	/** The instance whose lease the entry lives by; empty: none. */
	get instanceId(): string {
		return this.raw.instanceId;
	}

	get contentType(): string {
		return this.raw.value?.contentType ?? "";
	}

	/** When the key came to life. */
	get createTime(): Date | undefined {
		return this.raw.createTime && toDate(this.raw.createTime);
	}

	/** When this value was written. */
	get updateTime(): Date | undefined {
		return this.raw.updateTime && toDate(this.raw.updateTime);
	}

	/** When the entry ends by itself; undefined: never. */
	get expireTime(): Date | undefined {
		return this.raw.expireTime && toDate(this.raw.expireTime);
	}
}

/** The entry as a reader of the store sees it. A promise only where the schema gives one. */
export function viewEntry<T>(
	entry: AnyEntry,
	schema: StoreSchema<T> | undefined,
): StoreEntry<T> | Promise<StoreEntry<T>> {
	if (schema === undefined) return new StoreEntry<T>(entry);
	const checked = checkValue(schema, entry.key, new StoreEntry(entry).data);
	return checked instanceof Promise
		? checked.then((settled) => new StoreEntry<T>(entry, settled))
		: new StoreEntry<T>(entry, checked);
}
