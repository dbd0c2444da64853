import { createInterface } from "node:readline";

/** Says that the worker is ready, then answers each line of JSON on standard input with one on standard output. */
export async function answer<T>(run: (command: T) => Promise<object>): Promise<never> {
	process.on("SIGTERM", () => process.exit(0));
	tell({ ready: true });
	for await (const line of createInterface({ input: process.stdin })) tell(await run(JSON.parse(line) as T));
	process.exit(0);
}

export function tell(message: object): void {
	process.stdout.write(`${JSON.stringify(message)}\n`);
}
