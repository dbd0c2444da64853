import { describe, expect, test } from "vitest";
import { PluginState, PluginType } from "#gen/qirvo/hub/v1/plugin_service_pb.js";
import type { Reason } from "../../src/hub-error.ts";
import { openWorlds } from "../harness/open-worlds.ts";
import { ANONYMOUS, manifest, OPERATOR, plugin } from "../harness/plugin-world.ts";
import { refused } from "../harness/refused.ts";

const world = openWorlds();

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
