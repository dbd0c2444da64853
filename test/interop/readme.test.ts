import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { TestHub } from "../harness/hub.ts";
import { ROOT, runAsync, tool } from "./tools.ts";

let hub: TestHub;
let folder: string;

beforeAll(async () => {
	folder = mkdtempSync(join(tmpdir(), "hub-readme-"));
	hub = await TestHub.start({ directory: join(folder, "data") });
});

afterAll(async () => {
	await hub[Symbol.asyncDispose]();
	rmSync(folder, { recursive: true, force: true });
});

it("the grpcurl page works as it is pasted", async () => {
	const page = /```sh\n(HUB=[\s\S]*?)```/.exec(readFileSync(join(ROOT, "README.md"), "utf8"))?.[1];
	expect(page).toBeDefined();
	const script = `set -euo pipefail\n${page?.replace("127.0.0.1:50051", `127.0.0.1:${hub.running.port}`)}`;
	const path = `${dirname(tool("grpcurl"))}:${process.env.PATH}`;
	const printed = await runAsync("bash", ["-c", script], { cwd: folder, env: { PATH: path } });
	expect(printed).toContain("qirvo.hub.v1.EventService");
	expect(printed).toContain('"type": "hello.said"');
	expect(printed).toContain('"caughtUp"');
	expect(printed).toContain('"id": "hello"');
});
