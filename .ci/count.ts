// Sums the reports of the suites and the steps that are no suite; the last line is what a person looks for.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

const [folder = "", failedSteps = ""] = process.argv.slice(2);
const failed = failedSteps.split(" ").filter((step) => step !== "");
let passedTests = 0;
let failedTests = 0;
for (const suite of ["test", "interop"]) {
	const file = join(folder, `${suite}.json`);
	if (!existsSync(file)) {
		process.stdout.write(`${suite}: no report\n`);
		failedTests++;
		continue;
	}
	const report = JSON.parse(readFileSync(file, "utf8")) as {
		numPassedTests: number;
		numFailedTests: number;
		numPendingTests: number;
	};
	process.stdout.write(
		`${suite}: ${report.numPassedTests} passed, ${report.numFailedTests} failed, ${report.numPendingTests} not run\n`,
	);
	passedTests += report.numPassedTests;
	// A file that cannot be loaded has no test that could fail.
	failedTests += failed.includes(suite) ? Math.max(1, report.numFailedTests) : report.numFailedTests;
}
for (const step of ["install", "check", "install-interop"]) {
	if (failed.includes(step)) failedTests++;
	else passedTests++;
}
if (failed.length > 0) process.stdout.write(`failed: ${failed.join(", ")}\n`);
process.stdout.write(`${passedTests} passed, ${failedTests} failed\n`);
process.exitCode = failedTests === 0 ? 0 : 1;
