import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { build } from "esbuild";
import { type Browser, chromium } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { HubClient } from "../../src/client/index.ts";
import { TestHub } from "../harness/hub.ts";
import { attachEcho, credentialFor } from "./echo-plugin.ts";
import { tool } from "./tools.ts";

let pages: Server;
let origin: string;
let hub: TestHub;
let echo: HubClient;
let browser: Browser;

beforeAll(async () => {
	const bundle = await build({
		entryPoints: [join(import.meta.dirname, "browser/page.ts")],
		bundle: true,
		format: "esm",
		platform: "browser",
		write: false,
	});
	const script = bundle.outputFiles[0]?.text ?? "";
	pages = createServer((request, response) => {
		const isScript = request.url === "/page.js";
		response.setHeader("content-type", isScript ? "text/javascript" : "text/html");
		response.end(isScript ? script : "<!doctype html><title>hub</title>");
	});
	await new Promise<void>((resolve) => pages.listen(0, "127.0.0.1", resolve));
	origin = `http://127.0.0.1:${(pages.address() as AddressInfo).port}`;
	hub = await TestHub.start({ options: { corsOrigins: [origin] } });
	echo = await attachEcho(hub);
	browser = await chromium.launch({
		executablePath: tool("chromium"),
		args: [
			...["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"],
			...["--disable-background-networking", "--disable-component-update", "--disable-sync"],
		],
	});
});

afterAll(async () => {
	await browser?.close();
	await echo?.[Symbol.asyncDispose]();
	await hub?.[Symbol.asyncDispose]();
	pages?.close();
});

it("the SDK in Chromium registers, emits, subscribes, requests and answers", async () => {
	const page = await browser.newPage();
	const setup = { url: hub.url, token: await credentialFor(hub, "interop-browser") };
	await page.goto(origin);
	await page.evaluate((value) => {
		(globalThis as unknown as { setup: typeof value }).setup = value;
	}, setup);
	await page.addScriptTag({ url: "/page.js", type: "module" });
	await page.waitForFunction("window.outcome !== undefined");
	const outcome = (await page.evaluate("window.outcome")) as { event: { id: string }; emitted: string };
	expect(outcome).toEqual({
		event: { id: outcome.emitted, n: 7, source: "interop-browser" },
		emitted: outcome.emitted,
		reply: 8,
		own: 18,
		refused: "INVALID_EVENT_TYPE",
	});
	await page.close();
});

it("a page of another origin is refused by the browser", async () => {
	const page = await browser.newPage();
	await page.goto(origin.replace("127.0.0.1", "localhost"));
	const failed = await page.evaluate(
		(url) =>
			fetch(`${url}/qirvo.hub.v1.HubService/GetHubInfo`, { method: "POST" }).then(
				() => false,
				() => true,
			),
		hub.url,
	);
	expect(failed).toBe(true);
	await page.close();
});
