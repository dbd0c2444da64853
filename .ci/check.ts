// Everything that reads the sources without running them. Each step is run, and all that failed are named at the end.
import { spawnSync } from "node:child_process";

const STEPS: readonly (readonly [name: string, command: string])[] = [
	["generate", "buf generate && buf generate --template test/harness/buf.gen.yaml"],
	["no drift", 'test -z "$(git status --porcelain -- gen test/harness/gen)"'],
	["proto lint", "buf lint"],
	["breaking change", "buf breaking --against proto/baseline.binpb --exclude-imports"],
	["format and lint", "biome ci ."],
	["types", "tsc -p ."],
	["import rules", "node .ci/import-rules.ts"],
	["dead code", "knip"],
];

const failed: string[] = [];
for (const [name, command] of STEPS) {
	const started = performance.now();
	const { status } = spawnSync(command, { shell: true, stdio: "inherit" });
	const seconds = ((performance.now() - started) / 1000).toFixed(1);
	process.stdout.write(`${status === 0 ? "ok    " : "FAILED"} ${name} (${seconds} s)\n`);
	if (status !== 0) failed.push(name);
}
if (failed.length > 0) {
	process.stdout.write(`check failed: ${failed.join(", ")}\n`);
	process.exitCode = 1;
}
