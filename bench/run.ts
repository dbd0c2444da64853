// npm run bench -- [--only P1,P2] [--quick] [--json FILE]
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import type { Benchmark, BenchResult, Skipped } from "./bench.ts";

const BENCHMARKS: Readonly<Record<string, () => Promise<{ benchmark: Benchmark }>>> = {
	P1: () => import("./unary-emit.ts"),
	P2: () => import("./durable-publish.ts"),
	P3: () => import("./live-delivery.ts"),
	P5: () => import("./request-response.ts"),
	P6: () => import("./store-entries.ts"),
	P8: () => import("./pattern-match.ts"),
	WQ: () => import("./work-queue.ts"),
};

const { values } = parseArgs({
	options: { only: { type: "string" }, quick: { type: "boolean", default: false }, json: { type: "string" } },
});
const chosen = values.only?.split(",").map((id) => id.trim().toUpperCase()) ?? Object.keys(BENCHMARKS);
const unknown = chosen.filter((id) => !(id in BENCHMARKS));
if (unknown.length > 0) {
	process.stderr.write(
		`bench: --only: no benchmark ${unknown.join(", ")}; there are ${Object.keys(BENCHMARKS).join(", ")}\n`,
	);
	process.exit(2);
}

const results: BenchResult[] = [];
const skipped: Skipped[] = [];
for (const id of chosen) {
	const { benchmark } = await BENCHMARKS[id]!();
	for (const result of await benchmark({ quick: values.quick })) {
		if ("skipped" in result) skipped.push(result);
		else results.push(result);
		process.stdout.write(
			"skipped" in result ? `${result.id}  ${result.peer}: skipped, ${result.skipped}\n` : `${row(result)}\n`,
		);
	}
}

if (results.length > 0) {
	process.stdout.write(`\n${cells("id", "peer", "peer/s", "hub/s", "ratio", "reach", "durability (hub / peer)")}\n`);
	for (const result of results) process.stdout.write(`${row(result)}\n`);
}
if (values.json) writeFileSync(values.json, `${JSON.stringify(results, null, 2)}\n`);

function row(result: BenchResult): string {
	return cells(
		result.id,
		result.peer,
		result.peerRate.toLocaleString("en"),
		result.hubRate.toLocaleString("en"),
		result.ratio.toFixed(2),
		result.reach,
		result.durability,
	);
}

function cells(id: string, peer: string, peerRate: string, hubRate: string, ...rest: string[]): string {
	const [ratio, reach, durability] = rest as [string, string, string];
	const figures = [peerRate.padStart(10), hubRate.padStart(10), ratio.padStart(7), reach.padStart(7)];
	return `${id.padEnd(14)} ${peer.padEnd(38)} ${figures.join(" ")}  ${durability}`;
}
