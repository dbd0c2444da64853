// npm run demo [-- --manifests DIR] [-- --url URL]: two plugins exchange events and a request through a hub.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { HubService } from "#gen/qirvo/hub/v1/hub_service_pb.js";
import { PluginService } from "#gen/qirvo/hub/v1/plugin_service_pb.js";
import { SecurityAdminService } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import { connect, type HubClient } from "../src/client/index.ts";
import { parseManifest } from "../src/plugins/manifest.ts";
import { type DemoManifest, DemoProcess } from "./demo-process.ts";
import { type LocalHub, startLocalHub } from "./local-hub.ts";

const { values: flags } = parseArgs({
	options: {
		manifests: { type: "string", default: join(import.meta.dirname, "manifests") },
		url: { type: "string", default: "http://127.0.0.1:50051" },
		data: { type: "string", default: "./data" },
	},
});

const manifests = manifestsOrEnd(resolve(flags.manifests));
const [writer, reader] = manifests;

/** Tells the events of this run from those of earlier ones. */
const runId = `demo-${process.pid}-${Date.now()}`;

let own: LocalHub | undefined;
let ownFolder: string | undefined;
let operator = await runningHub();
if (operator) say("hub", `using the hub that runs at ${flags.url}`);
else {
	ownFolder = mkdtempSync(join(tmpdir(), "hub-demo-"));
	own = await startLocalHub({ flags: ["--state", "memory", "--data", ownFolder] });
	operator = await connect({ url: own.url, token: own.operatorToken });
	say("hub", `no hub runs here, so one was started at ${own.url}`);
}
const url = own?.url ?? flags.url;
const admin = createClient(SecurityAdminService, operator.transport);
const plugins = createClient(PluginService, operator.transport);
const credentials: string[] = [];
const created: string[] = [];
const processes: DemoProcess[] = [];

try {
	const known = new Set((await plugins.list({ pageSize: 500 })).plugins.map((plugin) => plugin.id));
	for (const { id, json } of manifests) {
		const { plugin } = await plugins.register({ manifestJson: json, withoutInstance: true });
		if (!known.has(id)) created.push(id);
		const asked = plugin?.declaredPermissions.map((permission) => permission.permission).join(", ");
		say("hub", `registered ${id}, which asks the platform for: ${asked || "nothing"}`);
	}
	for (const { id } of [writer, reader]) await grant(id);
	const [first, second] = await Promise.all([launch(writer), launch(reader)]);

	await first.run({ do: "emit", texts: ["first", "second", "third"] });
	await second.run({ do: "subscribe", expect: 3 });
	await first.run({ do: "emit", texts: ["fourth", "fifth"] });
	await second.run({ do: "subscribe", expect: 5 });
	await second.run({ do: "answer" });
	await first.run({ do: "ask", whom: reader.id });
	await Promise.all([first.leave(), second.leave()]);
	say("demo", "done: 3 events from history, 2 live, 1 request answered");
} finally {
	for (const child of processes) child.end();
	for (const credentialId of credentials)
		await admin.revokeCredential({ target: { case: "credentialId", value: credentialId } });
	for (const pluginId of created) await plugins.unregister({ pluginId });
	await operator[Symbol.asyncDispose]();
	await own?.stop();
	if (ownFolder) rmSync(ownFolder, { recursive: true, force: true });
}

/** Lets the plugin do what the demo shows; what was granted to it before stays as it is. */
async function grant(pluginId: string): Promise<void> {
	const { revision } = await admin.getPermissions({ pluginId });
	if (revision !== 0n) return;
	await admin.setPermissions({
		pluginId,
		permissions: { emit: ["demo.**"], subscribe: ["demo.**"], replay: ["demo.**"], sendTo: ["*"], receiveFrom: ["*"] },
	});
}

async function launch(manifest: DemoManifest): Promise<DemoProcess> {
	const { token, credentialId } = await admin.issueCredential({
		principal: { case: "pluginId", value: manifest.id },
		lifetime: durationFromMs(3_600_000),
	});
	credentials.push(credentialId);
	const child = new DemoProcess(manifest, { url, token, run: runId, report: (text) => say(manifest.id, text) });
	processes.push(child);
	await child.started;
	return child;
}

/** The hub of this folder, where one runs and takes its operator's token. */
async function runningHub(): Promise<HubClient | undefined> {
	let token: string;
	try {
		token = readFileSync(join(flags.data, "operator.token"), "utf8").trim();
	} catch {
		return undefined;
	}
	let client: HubClient | undefined;
	try {
		client = await connect({ url: flags.url, token, connectTimeout: 2000 });
		await createClient(HubService, client.transport).getHubInfo({}, { timeoutMs: 2000 });
		return client;
	} catch {
		await client?.[Symbol.asyncDispose]();
		return undefined;
	}
}

/** At least two manifests; says what is wrong and ends the process where the folder does not hold them. */
function manifestsOrEnd(folder: string): [DemoManifest, DemoManifest, ...DemoManifest[]] {
	let problem: string;
	try {
		const [first, second, ...others] = readManifests(folder);
		if (first && second) return [first, second, ...others];
		problem = `${folder} holds ${first ? "one manifest" : "no manifests"}, the demo needs two`;
	} catch (error) {
		problem = error instanceof Error ? error.message : String(error);
	}
	process.stderr.write(`demo: --manifests: ${problem}\n`);
	process.exit(2);
}

function readManifests(folder: string): DemoManifest[] {
	const found = new Map<string, DemoManifest>();
	for (const file of readdirSync(folder)
		.filter((name) => name.endsWith(".json"))
		.sort()) {
		const json = readFileSync(join(folder, file), "utf8");
		const { id } = parseManifest(json, file);
		if (!found.has(id)) found.set(id, { id, json });
	}
	return [...found.values()];
}

function say(who: string, text: string): void {
	process.stdout.write(`${who.padEnd(24)} ${text}\n`);
}
