#!/usr/bin/env node
// Nothing is imported before the check: an older Node would fail on a file it cannot parse, and not say why.
const REQUIRED = [22, 23, 2] as const;
const running = process.versions.node.split(".").map(Number);
const difference = REQUIRED.map((part, i) => (running[i] ?? 0) - part).find((part) => part !== 0) ?? 0;
if (difference < 0) {
	process.stderr.write(
		`plugin-hub: node: needs Node.js ${REQUIRED.join(".")} or newer, this is ${process.versions.node}\n`,
	);
	process.exitCode = 1;
} else {
	const { run } = await import("./run.ts");
	process.exitCode = await run(process.argv.slice(2), process.env);
}
