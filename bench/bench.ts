import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** One line of the table: the hub beside one peer, in one run. Rates are per second, unless the peer's name says else. */
export interface BenchResult {
	readonly id: string;
	readonly peer: string;
	readonly peerRate: number;
	readonly hubRate: number;
	readonly ratio: number;
	/** What the ratio should be; empty: it is only told. */
	readonly reach: string;
	/** What each side promised before it acknowledged: hub / peer. */
	readonly durability: string;
}

/** A benchmark that cannot run here, and what it lacks. */
export interface Skipped {
	readonly id: string;
	readonly peer: string;
	readonly skipped: string;
}

export interface BenchOptions {
	/** Fewer and shorter rounds: shows that it works, not what it is worth. */
	readonly quick: boolean;
}

export type Benchmark = (options: BenchOptions) => Promise<readonly (BenchResult | Skipped)[]>;

export function compare(
	id: string,
	peer: string,
	peerRates: number[],
	hubRates: number[],
	durability: string,
	{ reach = "" }: { readonly reach?: string } = {},
): BenchResult {
	const peerRate = median(peerRates);
	const hubRate = median(hubRates);
	return {
		id,
		peer,
		peerRate: Math.round(peerRate),
		hubRate: Math.round(hubRate),
		ratio: round(hubRate / peerRate),
		reach,
		durability,
	};
}

export function median(values: readonly number[]): number {
	const sorted = values.toSorted((a, b) => a - b);
	const middle = sorted.length >> 1;
	return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

function round(value: number): number {
	return Math.round(value * 100) / 100;
}

/** Whether a program can be started from PATH. */
export function installed(program: string): boolean {
	return spawnSync("which", [program], { stdio: "ignore" }).status === 0;
}

/** A folder that goes with the object. */
export class TemporaryFolder implements Disposable {
	readonly path = mkdtempSync(join(tmpdir(), "hub-bench-"));
	[Symbol.dispose](): void {
		rmSync(this.path, { recursive: true, force: true });
	}
}

/** A child process that prints JSON lines, and may take JSON lines; it ends with the object. */
export class Worker implements AsyncDisposable {
	readonly #child: ChildProcess;
	readonly #lines: AsyncIterator<string>;
	readonly #exited: Promise<unknown>;
	#errors = "";

	constructor(command: string, args: readonly string[], options: { readonly linesFrom?: "stdout" | "stderr" } = {}) {
		this.#child = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"] });
		// A process that is gone says so by its lines ending.
		this.#child.stdin?.on("error", () => {});
		this.#exited = once(this.#child, "exit");
		this.#child.on("error", (error) => {
			this.#errors += error.message;
		});
		const lines = options.linesFrom ?? "stdout";
		this.#child[lines === "stdout" ? "stderr" : "stdout"]?.on("data", (chunk) => {
			this.#errors = (this.#errors + chunk).slice(-4096);
		});
		this.#lines = createInterface({ input: this.#child[lines]! })[Symbol.asyncIterator]();
	}

	static node(
		file: string,
		args: readonly string[] = [],
		options: { readonly linesFrom?: "stdout" | "stderr" } = {},
	): Worker {
		return new Worker(process.execPath, [join(import.meta.dirname, file), ...args], options);
	}

	/** The next line that `accept` takes; lines before it are dropped. */
	async line(accept: (line: string) => boolean = () => true): Promise<string> {
		while (true) {
			const { value, done } = await this.#lines.next();
			if (done) throw new Error(`the process ended early: ${this.#errors}`);
			if (accept(value)) return value;
		}
	}

	/** The next line as JSON. */
	async json<T>(): Promise<T> {
		return JSON.parse(await this.line((line) => line.startsWith("{"))) as T;
	}

	/** Sends one line of JSON and waits for the next that comes back. */
	ask<T>(question: object): Promise<T> {
		this.#child.stdin?.write(`${JSON.stringify(question)}\n`);
		return this.json<T>();
	}

	async [Symbol.asyncDispose](): Promise<void> {
		if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill("SIGTERM");
		const kill = setTimeout(() => this.#child.kill("SIGKILL"), 10_000);
		await this.#exited;
		clearTimeout(kill);
	}
}
