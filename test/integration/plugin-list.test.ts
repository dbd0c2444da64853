import { describe, expect, test } from "vitest";
import { PluginState } from "#gen/qirvo/hub/v1/plugin_service_pb.js";
import { openWorlds } from "../harness/open-worlds.ts";
import { OPERATOR, plugin } from "../harness/plugin-world.ts";
import { refused } from "../harness/refused.ts";

const world = openWorlds();

const weather = plugin("weather");
const mail = plugin("mail");

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
