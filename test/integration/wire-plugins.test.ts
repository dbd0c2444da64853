import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { expect, it } from "vitest";
import { type PluginServiceWatchResponse, PluginState, PluginType } from "#gen/qirvo/hub/v1/plugin_service_pb.js";
import { failureOf } from "../harness/failure.ts";
import { Feed } from "../harness/feed.ts";
import { ALL_GRANTS, type Clients, describeHubs, manifestOf, type TestHub, until } from "../harness/hub.ts";

/** Manifests of the host platform, where they stand beside the project. */
const PUBLISHED = resolve(import.meta.dirname, "../../../shared/data/manifests");
const published = existsSync(PUBLISHED) ? readdirSync(PUBLISHED).filter((name) => name.endsWith(".json")) : [];

const V1 = JSON.stringify({
	manifest_version: 1,
	name: "Tide Table",
	version: "0.3.0",
	type: "dashboard-widget",
	category: "utilities",
	keywords: ["sea", "moon"],
	permissions: ["network", "storage", { type: "camera.access", description: "to see the sea", required: false }],
	entirely: { unknown: [true] },
});
const V2 = JSON.stringify({
	manifest_version: 2,
	id: "qirvo.tides",
	name: "Tides",
	version: "2.0.0-rc.1",
	type: "hybrid",
	entry: "main.js",
	engines: { qirvo: ">=2" },
	permissions: ["network-access", "network.request", "warp-drive"],
});

/** A plugin's clients that have a credential and no registration. */
async function credentialFor(hub: TestHub, pluginId: string): Promise<Clients> {
	const { token } = await hub.operator.admin.issueCredential({ principal: { case: "pluginId", value: pluginId } });
	return hub.connect(token);
}

function changesOf(watch: Feed<PluginServiceWatchResponse>) {
	return watch.all("batch").flatMap(({ changes }) => changes);
}

describeHubs("registration", (start) => {
	it("takes manifests of both versions, whole, and says what they declare", async () => {
		await using hub = await start();
		const one = await (await credentialFor(hub, "tide-table")).plugins.register({ manifestJson: V1 });
		expect(one).toMatchObject({ duplicate: false, token: "", lease: { seconds: 30n } });
		expect(one.plugin).toMatchObject({
			id: "tide-table",
			name: "Tide Table",
			version: "0.3.0",
			type: PluginType.DASHBOARD_WIDGET,
			categories: ["utilities"],
			tags: ["sea", "moon"],
			manifestJson: V1,
			state: PluginState.ONLINE,
			instances: [{ id: one.instanceId }],
			declaredPermissions: [
				{ permission: "network-access", spelling: "network", required: true, recognised: true },
				{ spelling: "storage", recognised: true },
				{ permission: "camera", spelling: "camera.access", required: false, recognised: true },
			],
		});
		const two = await (await credentialFor(hub, "qirvo.tides")).plugins.register({
			manifestJson: V2,
			withoutInstance: true,
		});
		expect([two.instanceId, two.lease]).toEqual(["", undefined]);
		expect(two.plugin).toMatchObject({
			id: "qirvo.tides",
			type: PluginType.HYBRID,
			state: PluginState.REGISTERED,
			manifestJson: V2,
			declaredPermissions: [
				// Two spellings of one permission are one.
				{ permission: "network-access", spelling: "network-access", recognised: true },
				{ permission: "warp-drive", recognised: false },
			],
		});
		for (const name of published) {
			const manifestJson = readFileSync(join(PUBLISHED, name), "utf8");
			const manifest = JSON.parse(manifestJson) as { name: string; version: string; id?: string };
			const id = manifest.id ?? manifest.name.toLowerCase().replaceAll(" ", "-");
			const { plugin } = await (await credentialFor(hub, id)).plugins.register({ manifestJson });
			expect(plugin).toMatchObject({ id, name: manifest.name, version: manifest.version, manifestJson });
			expect(plugin?.declaredPermissions.every(({ recognised }) => recognised)).toBe(true);
		}
	});

	it("repeats a request without doing it twice, and refuses the same id for something else", async () => {
		await using hub = await start();
		const plugin = await credentialFor(hub, "tide-table");
		const first = await plugin.plugins.register({ manifestJson: V1, requestId: "r1" });
		const again = await plugin.plugins.register({ manifestJson: V1, requestId: "r1" });
		expect(again).toMatchObject({ duplicate: true, instanceId: first.instanceId });
		expect(
			await failureOf(plugin.plugins.register({ manifestJson: manifestOf("tide-table"), requestId: "r1" })),
		).toMatchObject({ code: "Aborted", reason: "ID_REUSED" });
		// Registering again carries the instance on, or starts another beside it.
		const same = await plugin.plugins.register({ manifestJson: V1, instanceId: first.instanceId });
		expect(same.instanceId).toBe(first.instanceId);
		expect(same.plugin?.revision).toBe(first.plugin?.revision);
		const other = await plugin.plugins.register({ manifestJson: V1.replace("0.3.0", "0.4.0") });
		expect(other.plugin).toMatchObject({ version: "0.4.0", createTime: first.plugin?.createTime });
		expect(other.plugin?.revision).toBeGreaterThan(first.plugin!.revision);
		expect(other.plugin?.instances.map(({ id }) => id).sort()).toEqual([first.instanceId, other.instanceId].sort());
	});

	it("is for the id of the credential alone, in the expected state", async () => {
		await using hub = await start();
		const mine = await hub.enrol("mine");
		expect(await failureOf(mine.plugins.register({ manifestJson: manifestOf("other") }))).toMatchObject({
			code: "PermissionDenied",
			reason: "SPOOFED_SOURCE",
		});
		expect(await failureOf(hub.connect().plugins.register({ manifestJson: V1 }))).toMatchObject({
			code: "Unauthenticated",
			reason: "CREDENTIAL_MISSING",
		});
		const absent = { expected: { state: { case: "absent", value: true } } } as const;
		expect(await failureOf(mine.plugins.register({ manifestJson: manifestOf("mine"), ...absent }))).toMatchObject({
			code: "Aborted",
			reason: "REVISION_MISMATCH",
		});
		// An operator registers for a plugin, without being an instance of it.
		expect(await failureOf(hub.operator.plugins.register({ manifestJson: manifestOf("late") }))).toMatchObject({
			code: "InvalidArgument",
			fields: ["without_instance"],
		});
		const late = await hub.operator.plugins.register({
			manifestJson: manifestOf("late"),
			withoutInstance: true,
			...absent,
		});
		expect(late.plugin?.state).toBe(PluginState.REGISTERED);
	});
});

describeHubs("the plugins that are there", (start) => {
	it("are got, listed in pages and filtered", async () => {
		await using hub = await start();
		const viewer = await hub.enrol("viewer");
		for (const [index, id] of ["a1", "a2", "a3", "a4"].entries()) {
			const odd = index % 2 === 1;
			await hub.operator.plugins.register({
				manifestJson: manifestOf(id),
				withoutInstance: true,
				capabilities: { provides: odd ? ["tea.pour"] : ["tea:brew"], categories: odd ? ["odd"] : [] },
			});
		}
		expect((await viewer.plugins.get({ pluginId: "a2" })).plugin).toMatchObject({
			id: "a2",
			capabilities: { provides: ["tea.pour"] },
		});
		expect(await failureOf(viewer.plugins.get({ pluginId: "nobody" }))).toMatchObject({
			code: "NotFound",
			reason: "PLUGIN_NOT_FOUND",
		});

		const seen: string[] = [];
		let pageToken = "";
		do {
			const page = await viewer.plugins.list({ pageSize: 2, pageToken });
			expect(page.plugins.length).toBeLessThanOrEqual(2);
			seen.push(...page.plugins.map(({ id }) => id));
			pageToken = page.nextPageToken;
			if (seen.length === 2) {
				for (const changed of [{ category: "odd" }, { states: [PluginState.ONLINE] }]) {
					expect(await failureOf(viewer.plugins.list({ ...changed, pageToken }))).toMatchObject({
						code: "InvalidArgument",
						reason: "INVALID_PAGE_TOKEN",
						fields: ["page_token"],
					});
				}
			}
		} while (pageToken !== "");
		expect(seen).toEqual(["a1", "a2", "a3", "a4", "viewer"]);

		const ids = async (request: Parameters<typeof viewer.plugins.list>[0]) =>
			(await viewer.plugins.list(request)).plugins.map(({ id }) => id);
		expect(await ids({ category: "odd" })).toEqual(["a2", "a4"]);
		expect(await ids({ capability: "tea.brew" })).toEqual(["a1", "a3"]);
		expect(await ids({ states: [PluginState.ONLINE] })).toEqual(["viewer"]);
		expect(await ids({ states: [PluginState.REGISTERED], capability: "tea:pour" })).toEqual(["a2", "a4"]);
	});

	it("are hidden from those that their access control does not admit", async () => {
		await using hub = await start();
		const [friend, stranger] = [await hub.enrol("friend"), await hub.enrol("stranger")];
		const watches = [friend, stranger].map((clients) => new Feed(clients.plugins.watch({ pluginId: "shy" })));
		await Promise.all(watches.map((watch) => watch.first("caughtUp")));
		const events = [friend, stranger].map(
			(clients) => new Feed(clients.events.subscribe({ patterns: ["plugin.*"], filter: 'event.subject == "shy"' })),
		);
		await Promise.all(events.map((feed) => feed.first("ready")));

		const shy = await credentialFor(hub, "shy");
		await shy.plugins.register({
			manifestJson: manifestOf("shy"),
			capabilities: { accessControl: { allow: ["friend"] } },
		});
		expect((await friend.plugins.get({ pluginId: "shy" })).plugin?.id).toBe("shy");
		const hidden = await failureOf(stranger.plugins.get({ pluginId: "shy" }));
		const absent = await failureOf(stranger.plugins.get({ pluginId: "not" }));
		expect({ ...hidden, message: hidden.message.replace("shy", "not") }).toMatchObject({
			code: absent.code,
			reason: absent.reason,
			message: absent.message,
		});
		expect((await stranger.plugins.list({})).plugins.map(({ id }) => id)).toEqual(["friend", "stranger"]);
		expect((await hub.operator.plugins.list({})).plugins.map(({ id }) => id)).toEqual(["friend", "shy", "stranger"]);
		const [friendly, strange] = watches as [Feed<PluginServiceWatchResponse>, Feed<PluginServiceWatchResponse>];
		await friendly.first("batch");

		// Opening the door shows the plugin; what was told before it opened was told to the friend alone.
		await shy.plugins.update({ capabilities: { accessControl: { allow: ["*"] } } });
		await strange.first("batch");
		expect(changesOf(strange)[0]).toMatchObject({ pluginId: "shy", plugin: { id: "shy" } });
		expect(changesOf(strange)[0]?.previous).toBeUndefined();
		const types = events.map(
			(feed) => () => feed.all("batch").flatMap((batch) => batch.events.map(({ type }) => type)),
		);
		await events[1]!.first("batch");
		await events[0]!.when(() => types[0]!().length === 3);
		expect(types[0]!()).toEqual(["plugin:registered", "plugin:online", "plugin:updated"]);
		expect(types[1]!()).toEqual(["plugin:updated"]);
	});

	it("are watched: a snapshot, then each change, resumed after a position", async () => {
		await using hub = await start();
		const viewer = await hub.enrol("viewer");
		const watch = new Feed(viewer.plugins.watch({}));
		await watch.first("caughtUp");
		expect(watch.cases).toEqual(["ready", "batch", "caughtUp"]);
		expect(watch.frames[0]?.position).toBeUndefined();
		expect(changesOf(watch).map(({ pluginId, previous }) => [pluginId, previous])).toEqual([["viewer", undefined]]);

		await hub.enrol("guest");
		await watch.when(() =>
			changesOf(watch).some(({ plugin }) => plugin?.id === "guest" && plugin.instances.length === 1),
		);
		const { position } = watch.frames.at(-1)!;
		await hub.operator.plugins.disable({ pluginId: "guest", reason: "noisy" });
		await watch.when(() => changesOf(watch).at(-1)?.plugin?.state === PluginState.DISABLED);
		expect(changesOf(watch).at(-1)).toMatchObject({
			pluginId: "guest",
			plugin: { disabledReason: "noisy" },
			previous: { state: PluginState.ONLINE },
		});
		await hub.operator.plugins.unregister({ pluginId: "guest" });
		await watch.when(() => changesOf(watch).at(-1)?.plugin === undefined);

		const resumed = new Feed(viewer.plugins.watch({ after: position }));
		await resumed.first("caughtUp");
		expect(changesOf(resumed).map(({ pluginId }) => pluginId)).toEqual(["guest"]);
		expect(changesOf(resumed)[0]?.plugin).toBeUndefined();
		for (const after of [{ epoch: "another", sequence: 1n }]) {
			const lost = new Feed(viewer.plugins.watch({ after }));
			await lost.ended;
			expect(lost.failure).toMatchObject({ code: "OutOfRange", reason: "POSITION_TRIMMED" });
		}
	});
});

describeHubs("a registration", (start) => {
	it("is updated by mask and expected state", async () => {
		await using hub = await start();
		const plugin = await hub.enrol("mine");
		const first = (
			await plugin.plugins.update({ capabilities: { provides: ["a.b"], categories: ["x"], reliability: 0.5 } })
		).plugin!;
		const masked = await plugin.plugins.update({
			capabilities: { provides: ["c.d"], categories: ["ignored"] },
			updateMask: { paths: ["capabilities.provides", "capabilities.reliability"] },
			expected: { state: { case: "revision", value: first.revision } },
			requestId: "u1",
		});
		expect(masked.plugin?.capabilities).toMatchObject({ provides: ["c.d"], categories: ["x"] });
		expect(masked.plugin?.capabilities?.reliability).toBeUndefined();
		const stale = plugin.plugins.update({
			manifestJson: manifestOf("mine"),
			expected: { state: { case: "revision", value: first.revision } },
		});
		expect(await failureOf(stale)).toMatchObject({
			code: "Aborted",
			reason: "REVISION_MISMATCH",
			metadata: { revision: String(masked.plugin?.revision) },
		});
		const repeat = await plugin.plugins.update({
			capabilities: { provides: ["c.d"], categories: ["ignored"] },
			updateMask: { paths: ["capabilities.provides", "capabilities.reliability"] },
			expected: { state: { case: "revision", value: first.revision } },
			requestId: "u1",
		});
		expect(repeat).toMatchObject({ duplicate: true, plugin: { revision: masked.plugin?.revision } });
		expect(await failureOf(plugin.plugins.update({ updateMask: { paths: ["capabilities.nothing"] } }))).toMatchObject({
			code: "InvalidArgument",
			fields: ["update_mask"],
		});
		const others = await hub.enrol("other");
		expect(
			await failureOf(others.plugins.update({ pluginId: "mine", manifestJson: manifestOf("mine") })),
		).toMatchObject({
			code: "PermissionDenied",
			reason: "CALLER_NOT_ALLOWED",
		});
		const byOperator = await hub.operator.plugins.update({ pluginId: "mine", capabilities: { provides: ["e.f"] } });
		expect(byOperator.plugin?.capabilities?.provides).toEqual(["e.f"]);
	});

	it("is online for as long as a lease is renewed", async () => {
		await using hub = await start({ options: { leaseMs: 400 } });
		const operator = hub.operator.plugins;
		const { token } = await hub.operator.admin.issueCredential({ principal: { case: "pluginId", value: "brief" } });
		const plugin = hub.connect(token);
		const { instanceId, lease } = await plugin.plugins.register({ manifestJson: manifestOf("brief") });
		expect(lease).toMatchObject({ seconds: 0n, nanos: 400_000_000 });
		const beats = performance.now() + 900;
		await until(async () => {
			expect((await plugin.plugins.heartbeat({ instanceId })).lease?.nanos).toBe(400_000_000);
			return performance.now() > beats;
		});
		expect((await operator.get({ pluginId: "brief" })).plugin).toMatchObject({ state: PluginState.ONLINE });
		await until(async () => (await operator.get({ pluginId: "brief" })).plugin?.state === PluginState.OFFLINE);
		expect(await failureOf(plugin.plugins.heartbeat({ instanceId }))).toMatchObject({
			code: "NotFound",
			reason: "INSTANCE_NOT_FOUND",
		});
		expect(await failureOf(plugin.plugins.heartbeat({}))).toMatchObject({ fields: ["instance_id"] });
		expect((await operator.get({ pluginId: "brief" })).plugin?.instances).toEqual([]);
		const told = async () => (await hub.operator.events.listEvents({ patterns: ["plugin.offline"] })).events;
		await until(async () => (await told()).length === 1);
		expect(await told()).toMatchObject([{ type: "plugin:offline", source: "hub", subject: "brief" }]);
		const { plugin: back } = await plugin.plugins.register({ manifestJson: manifestOf("brief") });
		expect(back?.state).toBe(PluginState.ONLINE);
		expect(timestampMs(back!.instances[0]!.leaseExpireTime!)).toBeGreaterThan(timestampMs(back!.updateTime!));
	});

	it("is disabled and enabled by operators, and refused everything between", async () => {
		await using hub = await start();
		const plugin = await hub.enrol("mine");
		const { operator } = hub;
		const trial = await operator.plugins.disable({ pluginId: "mine", validateOnly: true });
		expect(trial.plugin?.id).toBe("mine");
		await plugin.events.emit({ event: { type: "a.b" } });
		const disabled = await operator.plugins.disable({ pluginId: "mine", reason: "noisy", requestId: "d" });
		expect(disabled.plugin).toMatchObject({ state: PluginState.DISABLED, disabledReason: "noisy" });
		expect(await operator.plugins.disable({ pluginId: "mine", reason: "noisy", requestId: "d" })).toMatchObject({
			duplicate: true,
		});
		const refused = { code: "FailedPrecondition", reason: "PLUGIN_DISABLED" };
		expect(await failureOf(plugin.events.emit({ event: { type: "a.b" } }))).toMatchObject(refused);
		expect(await failureOf(plugin.plugins.register({ manifestJson: manifestOf("mine") }))).toMatchObject(refused);
		expect(await failureOf(plugin.plugins.enable({ pluginId: "mine" }))).toMatchObject({ code: "FailedPrecondition" });
		expect((await operator.plugins.enable({ pluginId: "mine", validateOnly: true })).plugin?.id).toBe("mine");
		expect(await failureOf(plugin.events.emit({ event: { type: "a.b" } }))).toMatchObject(refused);
		expect((await operator.plugins.enable({ pluginId: "mine" })).plugin?.state).not.toBe(PluginState.DISABLED);
		await plugin.events.emit({ event: { type: "a.b" } });
		expect(await failureOf(operator.plugins.disable({ pluginId: "nobody" }))).toMatchObject({
			code: "NotFound",
			reason: "PLUGIN_NOT_FOUND",
		});
	});

	it("leaves nothing behind: who comes back has no grants", async () => {
		await using hub = await start();
		const plugin = await hub.enrol("mine", { ...ALL_GRANTS });
		await hub.operator.admin.setTrustLevel({ pluginId: "mine", trustLevel: 3 });
		await plugin.events.emit({ event: { type: "a.b" } });
		expect(
			await failureOf(plugin.plugins.unregister({ expected: { state: { case: "revision", value: 1n } } })),
		).toMatchObject({ code: "Aborted", reason: "REVISION_MISMATCH" });
		await plugin.plugins.unregister({ requestId: "bye" });
		expect(await failureOf(hub.operator.plugins.get({ pluginId: "mine" }))).toMatchObject({
			reason: "PLUGIN_NOT_FOUND",
		});

		const back = await credentialFor(hub, "mine");
		const { plugin: again } = await back.plugins.register({ manifestJson: manifestOf("mine") });
		expect(again).toMatchObject({ id: "mine", state: PluginState.ONLINE });
		expect(await failureOf(back.events.emit({ event: { type: "a.b" } }))).toMatchObject({
			code: "PermissionDenied",
			reason: "INSUFFICIENT_PERMISSIONS",
		});
		const { permissions } = await hub.operator.admin.getPermissions({ pluginId: "mine" });
		expect(permissions?.emit ?? []).toEqual([]);
		expect((await hub.operator.admin.getTrustLevel({ pluginId: "mine" })).trustLevel).toBe(1);
	});
});
