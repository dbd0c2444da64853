import { afterEach, describe, expect, test } from "vitest";
import { PluginState, PluginType } from "#gen/qirvo/hub/v1/plugin_service_pb.js";
import type { Reason } from "../../src/hub-error.ts";
import { keys } from "../../src/state/key-layout.ts";
import { ANONYMOUS, manifest, OPERATOR, PluginWorld, plugin, type WorldOptions } from "../harness/plugin-world.ts";

let opened: PluginWorld[] = [];

async function world(options?: WorldOptions): Promise<PluginWorld> {
	const made = await PluginWorld.open(options);
	opened.push(made);
	return made;
}

afterEach(async () => {
	for (const one of opened) {
		await one[Symbol.asyncDispose]();
		expect(one.clock.pendingTimers).toBe(0);
		expect(one.openStreams.size).toBe(0);
	}
	opened = [];
});

function refused(reason: Reason, metadata: Record<string, string> = {}) {
	return expect.objectContaining({ reason, metadata: expect.objectContaining(metadata) });
}

const weather = plugin("weather");
const mail = plugin("mail");

describe("register", () => {
	test("shows what the manifest and the capabilities say, and tells the others", async () => {
		const hub = await world();
		const manifestJson = manifest("weather", {
			name: "Weather",
			description: "Rain or shine",
			category: "forecasts",
			keywords: ["rain"],
			tags: ["sun", "rain"],
			permissions: ["network", { type: "camera.access", description: "to see clouds", required: false }, "warp"],
		});
		const capabilities = {
			provides: ["weather.forecast"],
			categories: ["data", "forecasts"],
			costs: { "weather.forecast": 2.5 },
			reliability: 0.5,
			metadataJson: `{"a":[1]}`,
			accessControl: { allow: ["mail"], deny: [] },
		};
		const answer = await hub.register(weather, { manifestJson, capabilities });
		expect(answer).toMatchObject({ instanceId: expect.any(String), duplicate: false, token: "" });
		expect(answer.lease).toMatchObject({ seconds: 30n });
		expect(answer.plugin).toMatchObject({
			id: "weather",
			name: "Weather",
			version: "1.0.0",
			description: "Rain or shine",
			type: PluginType.SERVICE,
			categories: ["data", "forecasts"],
			tags: ["sun", "rain"],
			manifestJson,
			state: PluginState.ONLINE,
			declaredPermissions: [
				{ permission: "network-access", spelling: "network", required: true, recognised: true },
				{ permission: "camera", description: "to see clouds", required: false, recognised: true },
				{ permission: "warp", recognised: false },
			],
			capabilities,
		});
		expect(answer.plugin?.instances.map((instance) => instance.id)).toEqual([answer.instanceId]);
		expect(answer.plugin?.instances[0]?.leaseExpireTime?.seconds).toBe(BigInt(hub.clock.now() / 1000 + 30));
		expect((await hub.get(OPERATOR, "weather")).plugin).toEqual(answer.plugin);

		const told = hub.told();
		expect(told.map((event) => event.type)).toEqual(["plugin:registered", "plugin:online"]);
		expect(told[0]).toMatchObject({ topic: "plugin.registered", source: "hub", subject: "weather" });
		expect(told[0]?.data).toMatchObject({
			pluginId: "weather",
			name: "Weather",
			version: "1.0.0",
			state: "ONLINE",
			capabilities: { provides: ["weather.forecast"], accessControl: { allow: ["mail"] } },
		});
		expect(told[1]?.data).toMatchObject({ instanceId: answer.instanceId });
		expect(new Set(told.map((event) => event.id)).size).toBe(2);
	});

	test("the same again is stored once; a new instance or the one that is there serves it", async () => {
		const hub = await world();
		const first = await hub.register(weather);
		const second = await hub.register(weather);
		const revision = hub.state.kv.revision;
		const third = await hub.register(weather, { instanceId: first.instanceId });
		expect(hub.state.kv.revision).toBe(revision);
		expect(second.instanceId).not.toBe(first.instanceId);
		expect(third.instanceId).toBe(first.instanceId);
		expect(third.plugin?.instances).toHaveLength(2);
		expect(new Set([first, second, third].map((answer) => answer.plugin?.revision)).size).toBe(1);
		expect(hub.toldInShort()).toEqual(["weather registered", "weather online"]);
	});

	test("something new is an update, with a greater revision and the first create time", async () => {
		const hub = await world();
		const first = await hub.register(weather);
		await hub.clock.advance(5000);
		const second = await hub.register(weather, { capabilities: { provides: ["x"] }, instanceId: first.instanceId });
		expect(second.plugin!.revision).toBeGreaterThan(first.plugin!.revision);
		expect(second.plugin?.createTime).toEqual(first.plugin?.createTime);
		expect(second.plugin!.updateTime!.seconds).toBe(first.plugin!.updateTime!.seconds + 5n);
		expect((await hub.get(weather, "weather")).plugin?.revision).toBe(second.plugin?.revision);
		expect(hub.toldInShort()).toEqual(["weather registered", "weather online", "weather updated"]);
	});

	test("the id is the credential's: a manifest may leave it out, and may not name another", async () => {
		const hub = await world();
		const answer = await hub.register(weather, { manifestJson: JSON.stringify({ name: "天気" }) });
		expect(answer.plugin?.id).toBe("weather");
		await expect(hub.register(weather, { manifestJson: manifest("mail") })).rejects.toEqual(refused("SPOOFED_SOURCE"));
		await expect(hub.register(weather, { manifestJson: "{" })).rejects.toEqual(refused("INVALID_MANIFEST"));
		await expect(hub.register(weather, { manifestJson: "" })).rejects.toEqual(refused("INVALID_MANIFEST"));
		expect(hub.registry.index.size).toBe(1);
		expect(hub.denials).toMatchObject([
			{ event: "call_denied", actor: "plugin:weather", target: "plugin:mail", reason: "spoofed_source" },
		]);
	});

	test("an operator registers for a plugin without an instance; it comes online later", async () => {
		const hub = await world();
		const refusal = hub.register(OPERATOR, { manifestJson: manifest("weather") });
		await expect(refusal).rejects.toEqual(refused("INVALID_FIELD", { field: "without_instance" }));
		const made = await hub.register(OPERATOR, { manifestJson: manifest("weather"), withoutInstance: true });
		expect(made).toMatchObject({ instanceId: "", plugin: { state: PluginState.REGISTERED } });
		expect(made.lease).toBeUndefined();
		const joined = await hub.register(weather);
		expect(joined.plugin).toMatchObject({ state: PluginState.ONLINE, revision: made.plugin!.revision });
		expect(hub.toldInShort()).toEqual(["weather registered", "weather online"]);
	});

	test("the expected state is kept to, and the actual revision is given", async () => {
		const hub = await world();
		const expecting = (state: object) => hub.register(weather, { expected: { state: state as never } });
		await expect(expecting({ case: "exists", value: true })).rejects.toEqual(
			refused("REVISION_MISMATCH", { revision: "0" }),
		);
		const { plugin: made } = await expecting({ case: "absent", value: true });
		const mismatch = refused("REVISION_MISMATCH", { revision: String(made?.revision) });
		await expect(expecting({ case: "absent", value: true })).rejects.toEqual(mismatch);
		await expect(expecting({ case: "revision", value: 999n })).rejects.toEqual(mismatch);
		await expect(expecting({ case: "revision", value: 0n })).rejects.toEqual(mismatch);
		await expecting({ case: "revision", value: made?.revision });
		await expect(expecting({ case: "any", value: false })).rejects.toEqual(
			refused("INVALID_FIELD", { field: "expected.any" }),
		);
		await expect(hub.register(weather, { expected: {} })).rejects.toEqual(
			refused("INVALID_FIELD", { field: "expected" }),
		);
	});

	test("of many at once one registers and all are there", async () => {
		const hub = await world();
		const answers = await Promise.all(Array.from({ length: 40 }, () => hub.register(weather)));
		expect(new Set(answers.map((answer) => answer.instanceId)).size).toBe(40);
		expect(new Set(answers.map((answer) => answer.plugin?.revision)).size).toBe(1);
		expect((await hub.get(weather, "weather")).plugin?.instances).toHaveLength(40);
		expect(hub.toldInShort()).toEqual(["weather registered", "weather online"]);
	});

	test("plugins and instances are bounded", async () => {
		const hub = await world({ registry: { maxPlugins: 2 } });
		await Promise.all([hub.register(weather), hub.register(mail)]);
		await expect(hub.register(plugin("third"))).rejects.toEqual(refused("LIMIT_EXCEEDED", { limit: "2" }));
		await hub.register(weather);
		for (let count = 2; count < 256; count++) await hub.register(weather);
		await expect(hub.register(weather)).rejects.toEqual(refused("LIMIT_EXCEEDED", { limit: "256" }));
		await hub.register(weather, { withoutInstance: true });
	});

	test("a burst of new plugins does not pass the bound", async () => {
		const hub = await world({ registry: { maxPlugins: 5 } });
		const all = await Promise.allSettled(Array.from({ length: 20 }, (_, at) => hub.register(plugin(`p${at}`))));
		expect(all.filter((one) => one.status === "fulfilled")).toHaveLength(5);
		expect(hub.registry.index.size).toBe(5);
	});

	const WRONG: [string, object, string][] = [
		["provides[1]", { provides: ["a", "b c"] }, "INVALID_FIELD"],
		["requires[0].capability", { requires: [{ capability: "" }] }, "INVALID_FIELD"],
		["requires[0].version_range", { requires: [{ capability: "a", versionRange: "banana" }] }, "INVALID_FIELD"],
		["categories[0]", { categories: ["x".repeat(65)] }, "INVALID_FIELD"],
		["version", { version: "one" }, "INVALID_FIELD"],
		["reliability", { reliability: 1.1 }, "INVALID_FIELD"],
		["reliability", { reliability: Number.NaN }, "INVALID_FIELD"],
		["response_time", { responseTime: { seconds: -1n } }, "INVALID_FIELD"],
		[`costs["a"]`, { costs: { a: -1 } }, "INVALID_FIELD"],
		[`costs["a"]`, { costs: { a: Number.POSITIVE_INFINITY } }, "INVALID_FIELD"],
		["costs", { costs: { "no name": 1 } }, "INVALID_FIELD"],
		["metadata_json", { metadataJson: "[]" }, "INVALID_FIELD"],
		["metadata_json", { metadataJson: `{"a":}` }, "INVALID_FIELD"],
		["metadata_json", { metadataJson: `{"a":${"[".repeat(80)}${"]".repeat(80)}}` }, "INVALID_FIELD"],
		["access_control.allow[0]", { accessControl: { allow: ["UPPER"] } }, "INVALID_PLUGIN_ID"],
		["access_control.deny[1]", { accessControl: { deny: ["*", "a b"] } }, "INVALID_PLUGIN_ID"],
		["provides", { provides: Array.from({ length: 257 }, () => "a") }, "INVALID_FIELD"],
		[
			`capability_metadata["a"].input_schema_json`,
			{ capabilityMetadata: { a: { inputSchemaJson: "{" } } },
			"INVALID_FIELD",
		],
		["", { metadataJson: JSON.stringify({ a: "x".repeat(70_000) }) }, "INVALID_FIELD"],
	];
	test.each(WRONG)("capabilities.%s is checked (%#)", async (path, capabilities, reason) => {
		const hub = await world();
		const field = path === "" ? "capabilities" : `capabilities.${path}`;
		await expect(hub.register(weather, { capabilities })).rejects.toEqual(refused(reason as Reason, { field }));
		expect(hub.told()).toEqual([]);
	});
});

describe("without a credential", () => {
	test("is refused unless the hub is for development", async () => {
		const hub = await world();
		await expect(hub.register(ANONYMOUS, { manifestJson: manifest("a") })).rejects.toEqual(
			refused("CREDENTIAL_MISSING"),
		);
		await expect(hub.get(ANONYMOUS, "a")).rejects.toEqual(refused("CREDENTIAL_MISSING"));
		await expect(hub.watch(ANONYMOUS, {}, new AbortController().signal).next()).rejects.toEqual(
			refused("CREDENTIAL_MISSING"),
		);
	});

	test("makes the id once and answers with a credential", async () => {
		const withdrawn: string[] = [];
		const hub = await world({
			devCredentials: {
				create: async (id) => `token of ${id}`,
				withdraw: async (id) => void withdrawn.push(id),
			},
		});
		const manifestJson = JSON.stringify({ name: "My Weather" });
		const both = await Promise.allSettled([
			hub.register(ANONYMOUS, { manifestJson }),
			hub.register(ANONYMOUS, { manifestJson }),
		]);
		const made = both.filter((one) => one.status === "fulfilled").map((one) => one.value);
		expect(made).toMatchObject([
			{ token: "token of my-weather", plugin: { id: "my-weather", state: PluginState.ONLINE } },
		]);
		expect(both.filter((one) => one.status === "rejected").map((one) => one.reason)).toEqual([
			refused("PLUGIN_EXISTS"),
		]);
		expect(withdrawn).toEqual(["my-weather"]);
		expect((await hub.register(plugin("my-weather"), { manifestJson })).token).toBe("");
	});

	test("an id without a credential does not stay taken", async () => {
		let works = false;
		const create = async () => {
			if (!works) throw new Error("no credential today");
			return "token";
		};
		const hub = await world({ devCredentials: { create, withdraw: async () => {} } });
		await expect(hub.register(ANONYMOUS, { manifestJson: manifest("a") })).rejects.toThrow("no credential today");
		works = true;
		expect((await hub.register(ANONYMOUS, { manifestJson: manifest("a") })).token).toBe("token");
	});
});

describe("update", () => {
	test("changes what is set, or what the mask names", async () => {
		const hub = await world();
		const capabilities = { provides: ["a", "b"], reliability: 0.5, costs: { a: 1 } };
		const { plugin: made } = await hub.register(weather, { capabilities });
		const masked = await hub.update(weather, {
			capabilities: { provides: ["c"], costs: { c: 3 } },
			updateMask: { paths: ["capabilities.provides", "capabilities.reliability"] },
		});
		expect(masked.plugin?.capabilities).toMatchObject({ provides: ["c"], costs: { a: 1 } });
		expect(masked.plugin?.capabilities?.reliability).toBeUndefined();
		expect(masked.plugin!.revision).toBeGreaterThan(made!.revision);
		const renamed = await hub.update(OPERATOR, {
			pluginId: "weather",
			manifestJson: manifest("weather", { name: "Climate", category: "sky" }),
		});
		expect(renamed.plugin).toMatchObject({ name: "Climate", categories: ["sky"], capabilities: { provides: ["c"] } });
		const whole = await hub.update(weather, { capabilities: { categories: ["x"] } });
		expect(whole.plugin).toMatchObject({ categories: ["x", "sky"], capabilities: { provides: [], costs: {} } });
		const same = await hub.update(weather, { capabilities: { categories: ["x"] } });
		expect(same.plugin?.revision).toBe(whole.plugin?.revision);
		expect(hub.toldInShort().filter((one) => one === "weather updated")).toHaveLength(3);
	});

	test("refuses bad masks, other plugins, what is not there and a lost race", async () => {
		const hub = await world();
		await expect(hub.update(weather, { capabilities: {} })).rejects.toEqual(refused("PLUGIN_NOT_FOUND"));
		const { plugin: made } = await hub.register(weather);
		await expect(hub.update(weather, {})).rejects.toEqual(refused("INVALID_FIELD", { field: "update_mask" }));
		for (const path of ["capabilities.nothing", "xxxxxxxxxxxxxprovides", "name", "capabilities.__proto__"]) {
			await expect(hub.update(weather, { updateMask: { paths: [path] } })).rejects.toEqual(
				refused("INVALID_FIELD", { field: "update_mask" }),
			);
		}
		await expect(hub.update(mail, { pluginId: "weather", capabilities: {} })).rejects.toEqual(
			refused("CALLER_NOT_ALLOWED"),
		);
		await expect(hub.update(weather, { manifestJson: manifest("mail") })).rejects.toEqual(refused("SPOOFED_SOURCE"));
		expect(hub.denials).toMatchObject([
			{ event: "call_denied", actor: "plugin:mail", target: "plugin:weather", reason: "caller_not_allowed" },
			{ event: "call_denied", actor: "plugin:weather", target: "plugin:mail", reason: "spoofed_source" },
		]);
		const changes = ["x", "y", "z"].map((name) =>
			hub.update(weather, {
				capabilities: { provides: [name] },
				expected: { state: { case: "revision", value: made!.revision } },
			}),
		);
		const settled = await Promise.allSettled(changes);
		expect(settled.map((one) => one.status).sort()).toEqual(["fulfilled", "rejected", "rejected"]);
	});
});

describe("disable and enable", () => {
	test("shut a plugin out and let it in, with the mark of the policy and an audit record", async () => {
		const hub = await world();
		const { instanceId } = await hub.register(weather);
		await expect(hub.disable(weather, { pluginId: "weather" })).rejects.toEqual(refused("CALLER_NOT_ALLOWED"));
		await expect(hub.disable(OPERATOR, { pluginId: "nobody" })).rejects.toEqual(refused("PLUGIN_NOT_FOUND"));
		const trial = await hub.disable(OPERATOR, { pluginId: "weather", reason: "noisy", validateOnly: true });
		expect(trial.plugin).toMatchObject({ state: PluginState.DISABLED, disabledReason: "noisy" });
		expect(hub.registry.lookup("weather")).toBe("present");
		expect(hub.audited).toEqual([]);

		const disabled = await hub.disable(OPERATOR, { pluginId: "weather", reason: "noisy" });
		expect(disabled.plugin).toMatchObject({ state: PluginState.DISABLED, disabledReason: "noisy" });
		expect(hub.state.kv.get(keys.disabled("weather"))).toBeDefined();
		expect(hub.registry.lookup("weather")).toBe("disabled");
		expect(hub.audited).toMatchObject([
			{ event: "plugin_disabled", actor: "operator:root", target: "plugin:weather", reason: "noisy" },
		]);
		await expect(hub.register(weather)).rejects.toEqual(refused("PLUGIN_DISABLED"));
		await expect(hub.update(weather, { capabilities: { provides: ["x"] } })).rejects.toEqual(
			refused("PLUGIN_DISABLED"),
		);
		await expect(hub.unregister(weather)).rejects.toEqual(refused("PLUGIN_DISABLED"));
		await expect(hub.heartbeat(weather, instanceId)).rejects.toEqual(refused("PLUGIN_DISABLED"));
		await hub.disable(OPERATOR, { pluginId: "weather", reason: "again" });
		expect(hub.audited).toHaveLength(1);

		const enabled = await hub.enable(OPERATOR, { pluginId: "weather" });
		expect(enabled.plugin).toMatchObject({ state: PluginState.ONLINE, disabledReason: "" });
		expect(hub.state.kv.get(keys.disabled("weather"))).toBeUndefined();
		await hub.heartbeat(weather, instanceId);
		expect(hub.toldInShort().slice(2)).toEqual(["weather disabled", "weather enabled"]);
		expect(hub.told()[2]?.data).toMatchObject({ state: "DISABLED", reason: "noisy" });
		expect(hub.stored("outbox/audit/")).toHaveLength(2);
	});
});

describe("unregister", () => {
	test("takes the instances and the grants away in one commit; what comes back inherits nothing", async () => {
		const hub = await world();
		const ended: string[] = [];
		hub.registry.onInstanceEnd((id, instance) => ended.push(`${id} ${instance}`));
		const { instanceId } = await hub.register(weather);
		const grants = [keys.permissions("weather"), keys.trust("weather"), keys.disabled("weather")];
		await hub.state.kv.commit({ id: "grants", writes: grants.map((key) => ({ key, value: Buffer.from("x") })) });
		await expect(hub.unregister(mail, { pluginId: "weather" })).rejects.toEqual(refused("CALLER_NOT_ALLOWED"));
		await hub.unregister(OPERATOR, { pluginId: "weather" });
		for (const key of grants) expect(hub.state.kv.get(key)).toBeUndefined();
		expect(hub.stored("plugin/").map((entry) => entry.key)).toEqual(["plugin/epoch"]);
		expect(ended).toEqual([`weather ${instanceId}`]);
		expect(hub.registry.isLive("weather", instanceId)).toBe(false);
		expect(hub.toldInShort().at(-1)).toBe("weather unregistered");
		expect(hub.audited).toMatchObject([{ event: "plugin_unregistered", target: "plugin:weather" }]);
		await expect(hub.get(OPERATOR, "weather")).rejects.toEqual(refused("PLUGIN_NOT_FOUND"));
		await expect(hub.unregister(weather)).rejects.toEqual(refused("PLUGIN_NOT_FOUND"));
		const again = await hub.register(weather, { withoutInstance: true });
		expect(again.plugin).toMatchObject({ state: PluginState.REGISTERED, instances: [] });
	});
});

describe("access control", () => {
	test("hides a plugin from those it does not admit, as if it were not there", async () => {
		const hub = await world();
		await hub.register(weather, { capabilities: { accessControl: { allow: ["mail", "spy"], deny: ["spy"] } } });
		await hub.register(plugin("open"), { capabilities: { accessControl: { allow: ["*"], deny: [] } } });
		await hub.register(plugin("shut"), { capabilities: { accessControl: { allow: [], deny: ["*"] } } });
		const seenBy = async (id: string) => (await hub.list(plugin(id))).plugins.map((one) => one.id);
		expect(await seenBy("mail")).toEqual(["open", "weather"]);
		expect(await seenBy("spy")).toEqual(["open"]);
		expect(await seenBy("shut")).toEqual(["open", "shut"]);
		expect((await hub.list(OPERATOR)).plugins.map((one) => one.id)).toEqual(["open", "shut", "weather"]);
		const hidden = await hub.get(plugin("spy"), "weather").catch((error) => error);
		const absent = await hub.get(plugin("spy"), "weathex").catch((error) => error);
		expect(hidden).toEqual(refused("PLUGIN_NOT_FOUND"));
		expect(hidden.message.replace("weather", "weathex")).toBe(absent.message);
		expect(hub.registry.admits("weather", "mail")).toBe(true);
		expect(hub.registry.admits("weather", "spy")).toBe(false);
		expect(hub.registry.admits("nobody", "spy")).toBe(false);
	});
});

describe("list", () => {
	test("pages in order of id, by what is asked for", async () => {
		const hub = await world();
		for (let at = 0; at < 25; at++) {
			const provides = at % 2 === 0 ? ["even.number"] : ["odd:number"];
			const category = at % 5 === 0 ? "five" : "other";
			await hub.register(plugin(`p${String(at).padStart(2, "0")}`), {
				capabilities: { provides, categories: [category] },
				withoutInstance: at >= 20,
			});
		}
		const ids: string[] = [];
		let pages = 0;
		for (let pageToken = ""; pages === 0 || pageToken !== ""; pages++) {
			const page = await hub.list(mail, { pageSize: 10, pageToken });
			ids.push(...page.plugins.map((one) => one.id));
			pageToken = page.nextPageToken;
		}
		expect(pages).toBe(3);
		expect(ids).toEqual(Array.from({ length: 25 }, (_, at) => `p${String(at).padStart(2, "0")}`));
		const count = async (request: object) => (await hub.list(mail, request)).plugins.length;
		expect(await count({ category: "five" })).toBe(5);
		expect(await count({ capability: "odd.number" })).toBe(12);
		expect(await count({ capability: "odd:number", category: "five" })).toBe(2);
		expect(await count({ states: [PluginState.REGISTERED] })).toBe(5);
		await expect(count({ pageSize: -5 })).rejects.toEqual(refused("INVALID_FIELD", { field: "page_size" }));

		const { nextPageToken } = await hub.list(mail, { pageSize: 3, category: "five" });
		expect(nextPageToken).not.toBe("");
		const invalid = refused("INVALID_PAGE_TOKEN");
		for (const wrong of [
			hub.list(mail, { pageToken: nextPageToken }),
			hub.list(weather, { pageToken: nextPageToken, category: "five" }),
			hub.list(mail, { pageToken: "nonsense", category: "five" }),
			hub.list(mail, { pageToken: `${nextPageToken}!`, category: "five" }),
		]) {
			await expect(wrong).rejects.toEqual(invalid);
		}
		await expect(hub.list(mail, { states: [PluginState.UNSPECIFIED] })).rejects.toEqual(
			refused("INVALID_FIELD", { field: "states[0]" }),
		);
	});

	test("a page passes over many hidden plugins and is not the last for that", async () => {
		const hub = await world();
		const hidden = { accessControl: { allow: [], deny: ["*"] } };
		const made = Array.from({ length: 1500 }, (_, at) =>
			hub.register(plugin(`a${at}`), { withoutInstance: true, capabilities: hidden }),
		);
		await Promise.all([...made, hub.register(plugin("z"), { withoutInstance: true })]);
		const first = await hub.list(mail);
		expect(first.plugins).toEqual([]);
		const second = await hub.list(mail, { pageToken: first.nextPageToken });
		expect(second.plugins.map((one) => one.id)).toEqual(["z"]);
		expect(second.nextPageToken).toBe("");
	});
});
