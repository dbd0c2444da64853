import type { CelError, CelValue } from "@bufbuild/cel";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { CelEngine } from "./expression-budget.ts";
import { readJson } from "./json-reader.ts";

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
			return readJson(this.#engine, JSON.parse(this.#event.json), "the event's data");
		} catch (error) {
			return this.#engine.celError(error);
		}
	}
}
