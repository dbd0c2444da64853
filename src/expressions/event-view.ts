import type { CelError, CelValue } from "@bufbuild/cel";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { CelEngine } from "./filter-budget.ts";

/** What a filter may read of an event. */
export interface FilteredEvent {
	readonly id: string;
	/** In the spelling of whoever emitted it. */
	readonly type: string;
	readonly source: string;
	/** Empty where the event has none. */
	readonly subject: string;
	readonly attributes: Readonly<Record<string, string>>;
	/** Milliseconds since the Unix epoch. */
	readonly time: number;
	readonly isReplay: boolean;
	/** The payload's JSON text; undefined where it is not JSON. */
	readonly json: string | undefined;
}

/** The most values (elements, members and scalars) that data may hold for a filter to read it. */
const MAX_DATA_VALUES = 10_000;
const MAX_DATA_DEPTH = 64;

/**
 * One event as any number of filters see it. Each part is made when a filter first reads it and then kept, so that data
 * is parsed at most once an event, and not at all where no filter reads it.
 */
export class EventView {
	readonly event: FilteredEvent;
	#bindings: EventBindings | undefined;

	constructor(event: FilteredEvent) {
		this.event = event;
	}

	/** The variables of an evaluation. */
	bindings(engine: CelEngine): EventBindings {
		this.#bindings ??= new EventBindings(this.event, engine);
		return this.#bindings;
	}
}

/**
 * The engine looks a chain of fields up by its longest dotted name first, which lets each field of `event` be a variable
 * of its own. `event` as a whole is for what is left: `event["type"]`.
 */
class EventBindings {
	readonly #event: FilteredEvent;
	readonly #engine: CelEngine;
	#attributes: CelValue | undefined;
	#time: CelValue | undefined;
	#data: CelValue | CelError | undefined;

	constructor(event: FilteredEvent, engine: CelEngine) {
		this.#event = event;
		this.#engine = engine;
	}

	get "event.id"(): string {
		return this.#event.id;
	}

	get "event.type"(): string {
		return this.#event.type;
	}

	get "event.source"(): string {
		return this.#event.source;
	}

	get "event.subject"(): string {
		return this.#event.subject;
	}

	get "event.is_replay"(): boolean {
		return this.#event.isReplay;
	}

	get "event.attributes"(): CelValue {
		this.#attributes ??= this.#engine.celMap(new Map(Object.entries(this.#event.attributes)));
		return this.#attributes;
	}

	get "event.time"(): unknown {
		this.#time ??= timestampFromMs(this.#event.time) as unknown as CelValue;
		return this.#time;
	}

	/** An error of the engine where the payload is not JSON, or holds more than a filter may read. */
	get "event.data"(): CelValue | CelError {
		this.#data ??= this.#readData();
		return this.#data;
	}

	get event(): unknown {
		const whole = new Map<string, unknown>();
		for (const name of ["id", "type", "source", "subject", "attributes", "time", "is_replay", "data"] as const) {
			const value = this[`event.${name}`];
			if (!this.#engine.isCelError(value)) whole.set(name, value);
		}
		return whole;
	}

	#readData(): CelValue | CelError {
		if (this.#event.json === undefined) return this.#engine.celError("the event has no JSON data");
		try {
			return new DataReader(this.#engine).value(JSON.parse(this.#event.json), 0);
		} catch (error) {
			return this.#engine.celError(error);
		}
	}
}

/** Turns parsed JSON into values of the engine. Members go into a `Map`, so no name among them is special. */
class DataReader {
	readonly #engine: CelEngine;
	#left = MAX_DATA_VALUES;

	constructor(engine: CelEngine) {
		this.#engine = engine;
	}

	value(json: unknown, depth: number): CelValue {
		if (--this.#left < 0) throw new Error(`the event's data holds more than ${MAX_DATA_VALUES} values`);
		if (json === null || typeof json !== "object") return json as CelValue;
		if (depth >= MAX_DATA_DEPTH) throw new Error(`the event's data nests deeper than ${MAX_DATA_DEPTH} levels`);
		if (Array.isArray(json)) return this.#engine.celList(json.map((item) => this.value(item, depth + 1)));
		const members = new Map<string, CelValue>();
		for (const [name, member] of Object.entries(json)) members.set(name, this.value(member, depth + 1));
		return this.#engine.celMap(members);
	}
}
