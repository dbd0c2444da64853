import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import type { KvCommit } from "../../src/state/kv-store.ts";
import type { LogRecord } from "../../src/state/log-store.ts";

/** The batch that the writer sends as its `batch`-th of a cycle; anyone can work it out again. */
export function batchOf(cycle: number, batch: number): LogRecord[] {
	const size = 1 + ((batch * 53) % 97);
	return Array.from({ length: size }, (_, index) => ({
		id: `${cycle}-${batch}-${index}`,
		topic: `topic.${batch % 5}`,
		bytes: new TextEncoder().encode(`${cycle}/${batch}/${index}/${"x".repeat((batch * 31) % 600)}`),
	}));
}

/** The commit that the writer sends as its `number`-th of a cycle: two keys with one value. */
export function commitOf(cycle: number, number: number): KvCommit {
	const value = new TextEncoder().encode(`${number}-${"y".repeat((number * 17) % 400)}`);
	const key = `${cycle}/${String(number).padStart(8, "0")}`;
	return {
		id: `commit-${cycle}-${number}`,
		writes: [
			{ key: `a/${key}`, value },
			{ key: `plugin/${key}`, value },
		],
	};
}

/** What the writer of one cycle was told is stored, as heard by the process that killed it. */
export class CrashLedger {
	/** First sequence by batch. */
	readonly appends = new Map<number, number>();
	/** Revision by commit. */
	readonly commits = new Map<number, number>();
	/** Batches and commits that were refused as certainly not written. */
	readonly refusedAppends = new Set<number>();
	readonly refusedCommits = new Set<number>();
	#rest = "";

	/** Listens to a writer, kills it once it told `enough` acknowledgements, and resolves with how it ended. */
	async follow(writer: ChildProcess, enough: number): Promise<{ code: unknown; signal: unknown; complaint: string }> {
		let complaint = "";
		writer.stderr!.setEncoding("utf8").on("data", (chunk: string) => {
			complaint += chunk;
		});
		writer.stdout!.setEncoding("utf8").on("data", (chunk: string) => {
			this.hear(chunk);
			if (this.appends.size + this.commits.size >= enough) writer.kill("SIGKILL");
		});
		const [code, signal] = await once(writer, "close");
		return { code, signal, complaint };
	}

	/** Takes what came through the pipe; a line cut short by the kill was never told whole and does not count. */
	hear(chunk: string): void {
		const lines = (this.#rest + chunk).split("\n");
		this.#rest = lines.pop()!;
		for (const line of lines) {
			const [kind, number, position] = line.split(" ");
			if (kind === "append") this.appends.set(Number(number), Number(position));
			if (kind === "commit") this.commits.set(Number(number), Number(position));
			if (kind === "refused-append") this.refusedAppends.add(Number(number));
			if (kind === "refused-commit") this.refusedCommits.add(Number(number));
		}
	}
}
