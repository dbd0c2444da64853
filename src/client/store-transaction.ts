import type { MessageInitShape } from "@bufbuild/protobuf";
import type { EntryCheckSchema, TransactionWriteSchema, TransactResponse } from "#gen/qirvo/hub/v1/entries_pb.js";
import { toDuration } from "./durations.ts";
import { type Expected, toExpectedState } from "./expected.ts";
import { type Data, toJson, toPayload } from "./payload.ts";
import type { WriteTarget } from "./pending-operation.ts";
import { StoreEntry } from "./store-entry.ts";
import { checkKey, invalid, type LifeOptions, type SetOptions, type Written } from "./store-options.ts";
import { type Checked, checkValue, type StoreSchema } from "./store-schema.ts";

type Write = MessageInitShape<typeof TransactionWriteSchema>["write"];

/** What `set` may say in a transaction. */
export type TransactionSet = Pick<
	SetOptions,
	"expected" | "ttl" | "contentType" | "schema" | "returnPrevious" | "ephemeral"
>;

/** A store that a transaction can write to. */
export interface TransactionStore<T> {
	readonly name: string;
	readonly schema: StoreSchema<T> | undefined;
}

/** All is written. */
export interface Transacted {
	/** Names the transaction in the changes that watches see. */
	readonly transactionId: string;
	/** What each write did, in their order. */
	readonly results: readonly Written[];
	/** The numbers after the increments, by their place among the writes. */
	readonly numbers: ReadonlyMap<number, number>;
	/** Whether `requestId` was seen before. */
	readonly duplicate: boolean;
}

/** Records what a transaction checks and writes in one store; `in` names others. Nothing happens before all is recorded. */
export class TransactionRecorder<T = Data> {
	readonly #parts: TransactionParts;
	readonly #store: TransactionStore<T>;

	constructor(parts: TransactionParts, store: TransactionStore<T>) {
		this.#parts = parts;
		this.#store = store;
	}

	/** The same transaction in another store. */
	in<U>(store: TransactionStore<U>): TransactionRecorder<U> {
		return new TransactionRecorder(this.#parts, store);
	}

	/** What must be there. */
	check(key: string, expected: Expected): this {
		checkKey(key);
		this.#parts.check({ store: this.#store.name, key, expected: toExpectedState(expected)! });
		return this;
	}

	/** Writes a value. Throws on one that the schema refuses, or JSON cannot say. */
	set(key: string, value: T, options: TransactionSet = {}): this {
		checkKey(key);
		const { schema, name: store } = this.#store;
		const checked = schema ? checkValue(schema, key, value) : { value };
		const write = (settled: Checked<T>, instanceId: string): Write => {
			if ("error" in settled) throw settled.error;
			const payload = toPayload(settled.value, options);
			if (payload?.body.case === undefined) throw invalid("value", "must not be undefined");
			const { ttl, returnPrevious = false } = options;
			const expected = toExpectedState(options.expected);
			return {
				case: "set",
				value: { store, key, value: payload, expected, ttl: duration(ttl), instanceId, returnPrevious },
			};
		};
		const { ephemeral = false } = options;
		this.#parts.write({ store, key }, options.expected, ephemeral, (instanceId) =>
			checked instanceof Promise ? checked.then((settled) => write(settled, instanceId)) : write(checked, instanceId),
		);
		return this;
	}

	delete(key: string, options: { readonly expected?: Expected; readonly returnPrevious?: boolean } = {}): this {
		checkKey(key);
		const { name: store } = this.#store;
		const { expected, returnPrevious = false } = options;
		this.#parts.write({ store, key }, expected, false, () => ({
			case: "delete",
			value: { store, key, expected: toExpectedState(expected), returnPrevious },
		}));
		return this;
	}

	/** Adds to a number. */
	increment(key: string, by = 1, options: LifeOptions = {}): this {
		checkKey(key);
		const { name: store } = this.#store;
		const value = { store, key, delta: toDelta(by), ttl: duration(options.ttl) };
		this.#parts.write({ store, key }, undefined, false, () => ({ case: "increment", value }));
		return this;
	}

	/** Appends an element to an array that does not have it. */
	append(key: string, element: Data, options: LifeOptions = {}): this {
		checkKey(key);
		const { name: store } = this.#store;
		const value = { store, key, elementJson: toJson(element), ttl: duration(options.ttl) };
		this.#parts.write({ store, key }, undefined, false, () => ({ case: "append", value }));
		return this;
	}
}

/** What a transaction was told, in order. */
export class TransactionParts {
	readonly targets: WriteTarget[] = [];
	readonly checks: MessageInitShape<typeof EntryCheckSchema>[] = [];
	readonly #writes: ((instanceId: string) => Write | Promise<Write>)[] = [];
	/** A write expects an exact revision, so that the transaction cannot take effect twice. */
	expectsRevision = false;
	/** A write is bound to the client's lease. */
	isEphemeral = false;

	check(check: MessageInitShape<typeof EntryCheckSchema>): void {
		this.checks.push(check);
	}

	write(
		target: WriteTarget,
		expected: Expected | undefined,
		isEphemeral: boolean,
		write: (instanceId: string) => Write | Promise<Write>,
	): void {
		this.targets.push(target);
		this.#writes.push((instanceId) => write(isEphemeral ? instanceId : ""));
		this.expectsRevision ||= typeof expected === "bigint";
		this.isEphemeral ||= isEphemeral;
	}

	/** The writes in the words of the contract. Rejects where a schema refuses a value. */
	async writes(instanceId: string): Promise<MessageInitShape<typeof TransactionWriteSchema>[]> {
		return await Promise.all(this.#writes.map(async (write) => ({ write: await write(instanceId) })));
	}
}

export function transactedOf({ transactionId, results, duplicate }: TransactResponse): Transacted {
	return {
		transactionId,
		duplicate,
		results: results.map(({ revision, changed, previous }) => ({
			revision,
			changed,
			previous: previous && new StoreEntry(previous),
		})),
		numbers: new Map(results.map(({ number }, index) => [index, Number(number)])),
	};
}

/** Throws INVALID_FIELD where it is no whole number. */
export function toDelta(by: number): bigint {
	if (!Number.isSafeInteger(by)) throw invalid("delta", "must be a whole number within 2^53");
	return BigInt(by);
}

function duration(ttl: number | undefined) {
	return ttl === undefined ? undefined : toDuration(ttl);
}
