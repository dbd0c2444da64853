import type { Registry } from "prom-client";

/** The upper bounds of the duration buckets, in seconds. */
const BUCKETS = [0.001, 0.005, 0.025, 0.1, 0.5, 2.5] as const;

/** Canonical codes by number; the only values the label `code` takes. */
const CODE_NAMES = [
	"OK",
	"CANCELLED",
	"UNKNOWN",
	"INVALID_ARGUMENT",
	"DEADLINE_EXCEEDED",
	"NOT_FOUND",
	"ALREADY_EXISTS",
	"PERMISSION_DENIED",
	"RESOURCE_EXHAUSTED",
	"FAILED_PRECONDITION",
	"ABORTED",
	"OUT_OF_RANGE",
	"UNIMPLEMENTED",
	"INTERNAL",
	"UNAVAILABLE",
	"DATA_LOSS",
	"UNAUTHENTICATED",
] as const;

/** Which way a call came in. */
export type Lane = "fast" | "connect";

/** The counters of one method on one lane. Two array stores a call; everything else happens when someone looks. */
export class CallSeries {
	readonly method: string;
	readonly lane: Lane;
	/** Ended calls by canonical code. */
	readonly codes: Float64Array = new Float64Array(CODE_NAMES.length);
	/** Ended calls by duration; the last place is for those beyond every bound. */
	readonly durations: Float64Array = new Float64Array(BUCKETS.length + 1);
	seconds = 0;
	inFlight = 0;

	constructor(method: string, lane: Lane) {
		this.method = method;
		this.lane = lane;
	}

	begin(): void {
		this.inFlight++;
	}

	/** `code` is canonical (0 to 16); `ms` is how long the call took, in milliseconds. */
	end(code: number, ms: number): void {
		this.inFlight--;
		this.codes[code]!++;
		const seconds = ms / 1000;
		this.seconds += seconds;
		let bucket = 0;
		while (bucket < BUCKETS.length && seconds > BUCKETS[bucket]!) bucket++;
		this.durations[bucket]!++;
	}
}

type Labels = Record<string, string | number>;
export interface Sample {
	readonly value: number;
	readonly labels: Labels;
	readonly metricName?: string;
}

/**
 * All the hub measures, for Prometheus. Labels are bounded: methods come from the mounted descriptors, codes and lanes
 * from fixed lists; those whose values somebody chose are for operators alone. prom-client is loaded when somebody first asks for the registry.
 */
export class Metrics {
	readonly #series: CallSeries[] = [];
	readonly #values: { name: string; help: string; type: "gauge" | "counter"; read: () => number }[] = [];
	readonly #detailed: { name: string; help: string; type: "gauge" | "counter"; read: () => Sample[] }[] = [];
	#registries: Promise<{ readonly open: Registry; readonly detailed: Registry }> | undefined;

	/** The counters of `method` on `lane`. Call it once a mounted method, not once a call. */
	calls(method: string, lane: Lane): CallSeries {
		let series = this.#series.find((each) => each.method === method && each.lane === lane);
		if (!series) {
			series = new CallSeries(method, lane);
			this.#series.push(series);
		}
		return series;
	}

	/** A value that is read when somebody looks. Register each name once, before the first look. */
	gauge(name: string, help: string, read: () => number): void {
		this.#values.push({ name, help, type: "gauge", read });
	}

	/** The same for a value that only grows. */
	counter(name: string, help: string, read: () => number): void {
		this.#values.push({ name, help, type: "counter", read });
	}

	/** Values with labels that say what not everyone may know, such as names of stores. Whoever gives them bounds their number. */
	detailed(name: string, help: string, type: "gauge" | "counter", read: () => Sample[]): void {
		this.#detailed.push({ name, help, type, read });
	}

	/** The Prometheus text exposition and its content type. */
	async expose(options: { readonly toOperator?: boolean } = {}): Promise<{ contentType: string; text: string }> {
		this.#registries ??= this.#build();
		const { open, detailed } = await this.#registries;
		const text = await open.metrics();
		return {
			contentType: open.contentType,
			text: options.toOperator === true ? `${text}\n${await detailed.metrics()}` : text,
		};
	}

	async #build(): Promise<{ readonly open: Registry; readonly detailed: Registry }> {
		const { Registry, collectDefaultMetrics } = (await import("prom-client")).default;
		const open = new Registry();
		const detailed = new Registry();
		collectDefaultMetrics({ register: open });
		const add = (name: string, help: string, type: string, read: () => Sample[], registry: Registry = open) => {
			// A registry takes anything that can `get`; its own classes would hash the labels on every call.
			const metric = {
				name,
				help,
				type,
				aggregator: "sum",
				reset() {},
				get: async () => ({ name, help, type, values: read() }),
			};
			registry.registerMetric(metric as never);
		};
		for (const { name, help, type, read } of this.#values) {
			add(name, help, type, () => [{ value: read(), labels: {} }]);
		}
		for (const { name, help, type, read } of this.#detailed) add(name, help, type, read, detailed);
		add("hub_rpc_calls_total", "Calls that ended, by method, lane and canonical code.", "counter", () =>
			this.#totals(),
		);
		add("hub_rpc_calls_in_flight", "Calls that are open.", "gauge", () =>
			this.#series.map(({ method, lane, inFlight }) => ({ value: inFlight, labels: { method, lane } })),
		);
		add("hub_rpc_duration_seconds", "How long calls took, streams included.", "histogram", () => this.#histogram());
		return { open, detailed };
	}

	#totals(): Sample[] {
		const samples: Sample[] = [];
		for (const { method, lane, codes } of this.#series) {
			for (const [code, value] of codes.entries()) {
				if (value > 0) samples.push({ value, labels: { method, lane, code: CODE_NAMES[code]! } });
			}
		}
		return samples;
	}

	#histogram(): Sample[] {
		const name = "hub_rpc_duration_seconds";
		const samples: Sample[] = [];
		for (const { method, lane, durations, seconds } of this.#series) {
			let total = 0;
			for (const [index, count] of durations.entries()) {
				total += count;
				const le = BUCKETS[index] ?? "+Inf";
				samples.push({ value: total, labels: { method, lane, le }, metricName: `${name}_bucket` });
			}
			samples.push({ value: seconds, labels: { method, lane }, metricName: `${name}_sum` });
			samples.push({ value: total, labels: { method, lane }, metricName: `${name}_count` });
		}
		return samples;
	}
}
