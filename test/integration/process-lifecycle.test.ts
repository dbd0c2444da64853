import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, writeFileSync } from "node:fs";
import http2 from "node:http2";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { EventService } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { openEnvironment } from "../../src/state/embedded/environment.ts";
import { reasonOf, until } from "../harness/hub.ts";
import { HUB_MAIN, HubProcess, runHub, runNode, TestFolder } from "../harness/hub-process.ts";

let folder: TestFolder;
beforeEach(() => {
	folder = new TestFolder();
});
afterEach(() => folder[Symbol.dispose]());

describe("a start", () => {
	const READY_MS = 1000;
	/** A program that uses so much of a processor. How much longer it takes says how busy the machine is with other things. */
	const WORK_MS = 300;
	const WORK = `while (process.cpuUsage().user + process.cpuUsage().system < ${WORK_MS}e3);`;
	const ROUNDS = 5;

	it("is ready within a second of a machine that is not busy", { timeout: 120_000 }, async () => {
		const busy: number[] = [];
		const ready = { memory: [] as number[], embedded: [] as number[] };
		for (let round = 0; round < ROUNDS; round++) {
			for (const state of ["memory", "embedded"] as const) {
				const startedAt = performance.now();
				await runNode(["-e", WORK]);
				busy.push((performance.now() - startedAt) / WORK_MS);
				await using hub = await HubProcess.start(state, join(folder.path, `${state}${round}`));
				ready[state].push(hub.local.readyMs);
			}
		}
		const allowed = READY_MS * Math.max(1, median(busy));
		const measured = JSON.stringify({ busy, ...ready });
		expect(median(ready.memory), measured).toBeLessThan(allowed);
		expect(median(ready.embedded), measured).toBeLessThan(allowed);
	});

	it("on a port that is taken ends with code 1 and names listen", async () => {
		await using hub = await HubProcess.start("memory", folder.path);
		const address = new URL(hub.url).host;
		const second = await runHub(["--state", "memory", "--data", join(folder.path, "second"), "--listen", address]);
		expect(second.code).toBe(1);
		expect(second.stderr).toContain(`plugin-hub: listen: ${address} is in use`);
	});

	it("on a folder that another hub has is refused and names data", async () => {
		await using hub = await HubProcess.start("embedded", folder.path);
		const second = await runHub(["--data", folder.path, "--listen", "127.0.0.1:0"]);
		expect(second.code).toBe(1);
		expect(second.stderr).toContain(`plugin-hub: data: ${folder.path} is in use by another hub`);
		await hub.operator.hub.getHubInfo({});
	});

	it("on the data of a newer hub is refused and names data", async () => {
		const environment = await openEnvironment(folder.path);
		await environment.meta.put(Buffer.from("format"), Buffer.from("2"));
		await environment.root.close();
		const refused = await runHub(["--data", folder.path, "--listen", "127.0.0.1:0"]);
		expect(refused.code).toBe(1);
		expect(refused.stderr).toContain(`plugin-hub: data: ${folder.path} holds state of format 2`);
	});

	it.each([
		["listen", ["--listen", "0.0.0.0:0"], "set tls-cert and tls-key"],
		["listen", ["--listen", "[::]:0"], "set tls-cert and tls-key"],
		["dev", ["--listen", "0.0.0.0:0", "--dev"], "needs a loopback address"],
		[
			"tls-cert",
			["--listen", "127.0.0.1:0", "--tls-cert", "missing.pem", "--tls-key", HUB_MAIN],
			"missing.pem cannot be read",
		],
		[
			"tls-key",
			["--listen", "127.0.0.1:0", "--tls-cert", HUB_MAIN, "--tls-key", "missing.pem"],
			"missing.pem cannot be read",
		],
		["tls-cert", ["--listen", "127.0.0.1:0", "--tls-cert", HUB_MAIN, "--tls-key", HUB_MAIN], "cannot be used"],
		["data", ["--listen", "127.0.0.1:0", "--data", HUB_MAIN], "operator token cannot be kept"],
		[
			"data",
			["--listen", "127.0.0.1:0", "--data", HUB_MAIN, "--state", "embedded"],
			"cannot be used as a state folder",
		],
	])("that is not safe, or not possible, ends with code 1 and names %s: %j", async (key, flags, problem) => {
		const refused = await runHub(["--state", "memory", "--data", folder.path, ...flags]);
		expect(refused).toMatchObject({ code: 1, stdout: "" });
		expect(refused.stderr).toMatch(new RegExp(`^plugin-hub: ${key}: .*${problem}`, "m"));
		expect(refused.stderr).not.toContain("    at ");
	});

	it.each([
		[["--colour", "red"], {}, "--colour"],
		[["--listen", "here"], {}, "--listen"],
		[["--data"], {}, "--data"],
		[["serve"], {}, "serve"],
		[[], { QIRVO_HUB_STATE: "disk" }, "QIRVO_HUB_STATE"],
		[["--config", "missing.json"], {}, "--config"],
	])("with a setting that cannot be used ends with code 2 and names it: %j %j", async (flags, env, key) => {
		const refused = await runHub(flags, { env, cwd: folder.path });
		expect(refused).toMatchObject({ code: 2, stdout: "" });
		expect(refused.stderr).toMatch(/^plugin-hub: [^\n]+\n$/);
		expect(refused.stderr).toContain(`plugin-hub: ${key}: `);
	});

	it("tells an older Node what it needs", async () => {
		const fake = "Object.defineProperty(process,'versions',{value:{...process.versions,node:'22.23.1'}})";
		const preload = `data:text/javascript,${encodeURIComponent(fake)}`;
		const refused = await runNode(["--import", preload, HUB_MAIN, "--version"]);
		expect(refused).toMatchObject({ code: 1, stdout: "" });
		expect(refused.stderr).toBe("plugin-hub: node: needs Node.js 22.23.2 or newer, this is 22.23.1\n");
	});

	it("is not made for --help and --version", async () => {
		const help = await runHub(["--help"], { cwd: folder.path });
		expect(help).toMatchObject({ code: 0, stderr: "" });
		expect(help.stdout).toContain("--listen HOST:PORT");
		const version = await runHub(["--version"], { cwd: folder.path });
		expect(version).toMatchObject({ code: 0, stderr: "" });
		expect(version.stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
	});
});

describe("settings", () => {
	it("reach the hub from flags, before the environment, before the file", async () => {
		const file = join(folder.path, "hub.json");
		writeFileSync(
			file,
			JSON.stringify({ "lease-seconds": 11, "id-window-seconds": 12, dev: true, "log-level": "debug" }),
		);
		await using hub = await HubProcess.start("memory", join(folder.path, "data"), {
			flags: ["--config", file, "--no-dev"],
			env: { QIRVO_HUB_LEASE_SECONDS: "21", QIRVO_HUB_DEV: "true" },
		});
		const info = await hub.operator.hub.getHubInfo({});
		expect(info.backend).toBe("memory");
		expect(info.limits?.lease?.seconds).toBe(21n);
		expect(info.limits?.idWindow?.seconds).toBe(12n);
		expect(info.devMode).toBe(false);
	});

	it("that turn the fast lane off leave gRPC to be served", async () => {
		await using hub = await HubProcess.start("memory", folder.path, { flags: ["--no-fast-lane"] });
		const plugin = await hub.enrol("slow-lane");
		const { position } = await plugin.events.emit({ event: { type: "lane.used" } });
		expect(position?.sequence).toBeGreaterThan(0n);
	});
});

describe("a stop", () => {
	it.each(["memory", "embedded"] as const)("tells every open stream, and ends with code 0 (%s)", async (state) => {
		await using hub = await HubProcess.start(state, folder.path);
		const plugin = await hub.enrol("listener");
		const browser = createClient(
			EventService,
			createConnectTransport({
				baseUrl: hub.url,
				httpVersion: "1.1",
				interceptors: [
					(next) => (request) => {
						request.header.set("authorization", `Bearer ${plugin.token}`);
						return next(request);
					},
				],
			}),
		);
		const idle = Promise.withResolvers<void>();
		const open = [
			...Array.from({ length: 20 }, () => plugin.events.subscribe({ patterns: ["stop.*"] })),
			...Array.from({ length: 10 }, () => browser.subscribe({ patterns: ["stop.*"] })),
			...Array.from({ length: 10 }, () => hub.operator.plugins.watch({})),
			...Array.from({ length: 10 }, () => plugin.events.emitStream(nothingUntil(idle.promise))),
		].map((stream) => stream[Symbol.asyncIterator]());
		const firstFrames = await Promise.all(open.map((frames) => frames.next()));
		expect(firstFrames.map((frame) => frame.done)).toEqual(open.map(() => false));
		const endings = Promise.all(open.map(endOf));
		const startedAt = performance.now();
		expect(await hub.local.stop()).toEqual({ code: 0, signal: null });
		expect(performance.now() - startedAt).toBeLessThan(10_000);
		expect(await endings).toEqual(open.map(() => "HUB_DRAINING"));
		expect(hub.local.log()).toContain('"stopped"');
		idle.resolve();
	});

	it("asked for while the hub starts is made once it has", async () => {
		const flags = ["--state", "embedded", "--data", folder.path, "--listen", "127.0.0.1:0"];
		const child = spawn(process.execPath, [HUB_MAIN, ...flags], { stdio: ["ignore", "ignore", "pipe"] });
		const log = text(child.stderr);
		const exited = once(child, "exit");
		await until(() => existsSync(join(folder.path, "hub.lock")));
		child.kill("SIGTERM");
		expect(await exited).toEqual([0, null]);
		expect(await log).toContain('"stopped"');
	});
});

describe("HTTP", () => {
	it("answers /livez, /readyz and /metrics over HTTP/1.1 and HTTP/2", async () => {
		await using hub = await HubProcess.start("memory", folder.path);
		for (const [path, body] of [
			["/livez", "ok\n"],
			["/readyz", "ok\n"],
			["/metrics", "# HELP"],
		] as const) {
			const first = await fetch(`${hub.url}${path}`);
			expect([first.status, (await first.text()).slice(0, body.length)]).toEqual([200, body]);
			const second = await getHttp2(hub.url, path);
			expect([second.status, second.body.slice(0, body.length)]).toEqual([200, body]);
		}
		expect((await fetch(`${hub.url}/elsewhere`)).status).toBe(404);
	});
});

/** The reason that a stream ended with; undefined where it ended without one. */
async function endOf(frames: AsyncIterator<unknown>): Promise<string | undefined> {
	try {
		while (!(await frames.next()).done);
		return undefined;
	} catch (error) {
		return reasonOf(ConnectError.from(error));
	}
}

async function* nothingUntil(end: Promise<void>): AsyncGenerator<never> {
	yield* (await end) ?? [];
}

async function getHttp2(url: string, path: string): Promise<{ status: number; body: string }> {
	const session = http2.connect(url);
	try {
		const stream = session.request({ ":path": path });
		const answered = new Promise<number>((resolve, reject) => {
			stream.on("response", (headers) => resolve(headers[":status"] ?? 0));
			stream.on("error", reject);
			session.on("error", reject);
		});
		let body = "";
		for await (const chunk of stream.setEncoding("utf8")) body += chunk;
		return { status: await answered, body };
	} finally {
		session.close();
	}
}

function median(values: readonly number[]): number {
	return values.toSorted((a, b) => a - b)[values.length >> 1]!;
}
