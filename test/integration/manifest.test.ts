import { existsSync, readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { HubError } from "../../src/hub-error.ts";
import { type Manifest, parseManifest, slug } from "../../src/plugins/manifest.ts";
import { PLATFORM_PERMISSIONS, platformPermission } from "../../src/plugins/platform-permissions.ts";

const examples = new URL("../../examples/manifests/", import.meta.url);
const published = new URL("../../../shared/data/manifests/", import.meta.url);
const read = (folder: URL, name: string): Manifest =>
	parseManifest(readFileSync(new URL(name, folder), "utf8"), "manifest_json");
const names = (manifest: Manifest) => manifest.declaredPermissions.map((declared) => declared.permission);

function refusal(manifest: unknown): HubError {
	try {
		parseManifest(typeof manifest === "string" ? manifest : JSON.stringify(manifest), "manifest_json");
	} catch (error) {
		if (error instanceof HubError) return error;
		throw error;
	}
	throw new Error("was accepted");
}

describe("manifests of ours", () => {
	it("are all readable, whatever their shape", () => {
		const files = readdirSync(examples).filter((file) => file.endsWith(".json"));
		expect(files.length).toBeGreaterThanOrEqual(4);
		for (const file of files) {
			const manifest = read(examples, file);
			expect(manifest.manifestVersion, file).toBe(file.includes(".v2.") ? 2 : 1);
			expect(manifest.json, file).toBe(readFileSync(new URL(file, examples), "utf8"));
		}
	});

	it("of version 1 get an id from their name", () => {
		const habits = read(examples, "habit-tracker.v1.json");
		expect(habits.id).toBe("habit-tracker");
		expect(habits.categories).toEqual(["health"]);
		expect(habits.tags).toEqual(["daily", "routine", "habits", "streak"]);
		expect(names(habits)).toEqual(["storage-read", "storage-write", "notifications"]);
		expect(habits.declaredPermissions[0]).toEqual({
			permission: "storage-read",
			spelling: "storage",
			recognised: true,
			description: undefined,
			required: undefined,
		});
		const tasks = read(examples, "task-tool.v1.json");
		expect(tasks.id).toBe("task-tool");
		expect(tasks.version).toBe("3.0.0-rc.1");
		expect(names(tasks)).toEqual(["storage-read", "filesystem-access", "clipboard-read"]);
	});

	it("of version 2 carry their id and permission objects", () => {
		const calendar = read(examples, "calendar-sync.v2.json");
		expect(calendar.id).toBe("example.calendar-sync");
		expect(calendar.type).toBe("service");
		expect(names(calendar)).toEqual(["network-access", "calendar", "storage-read", "storage-write", "notifications"]);
		expect(calendar.declaredPermissions[0]).toMatchObject({
			spelling: "network.request",
			description: "Reach the CalDAV server",
			required: true,
		});
		expect(read(examples, "notes-page.v2.json").categories).toEqual(["education", "productivity"]);
	});

	it("keep a permission that the hub does not know, and say so", () => {
		const unknown = read(examples, "mood-journal.v2.json").declaredPermissions.filter((one) => !one.recognised);
		expect(unknown.map((one) => one.permission)).toEqual(["health-records"]);
	});
});

describe.runIf(existsSync(published))("manifests as the platform publishes them", () => {
	it("with short names and no id", () => {
		const weather = read(published, "weather-widget.v1.json");
		expect(weather.id).toBe("weather-widget");
		expect(weather.version).toBe("1.0.0");
		expect(names(weather)).toEqual(["network-access", "storage-read", "notifications"]);
	});

	it("with permission objects", () => {
		const weather = read(published, "advanced-weather.v1.json");
		expect(weather.id).toBe("advanced-weather-widget");
		expect(weather.tags).toContain("climate");
		expect(weather.tags.filter((tag) => tag === "weather")).toHaveLength(1);
		expect(names(weather)).toEqual(["network-access", "storage-read", "storage-write", "notifications", "geolocation"]);
		expect(weather.declaredPermissions.map((one) => one.required)).toEqual([true, true, true, false, false]);
	});
});

describe("permissions", () => {
	it.each([
		["network", "network-access"],
		["network.request", "network-access"],
		["storage", "storage-read"],
		["storage.read", "storage-read"],
		["storage.write", "storage-write"],
		["filesystem", "filesystem-access"],
		["location", "geolocation"],
		["geolocation.read", "geolocation"],
		["notifications.show", "notifications"],
		["clipboard.read", "clipboard-read"],
		["clipboard.write", "clipboard-write"],
		["camera.access", "camera"],
		["microphone.access", "microphone"],
	])("%s is %s", (spelling, permission) => {
		expect(platformPermission(spelling)).toBe(permission);
	});

	it("have canonical names that stand for themselves, and no others", () => {
		for (const permission of PLATFORM_PERMISSIONS) expect(platformPermission(permission)).toBe(permission);
		for (const spelling of ["__proto__", "constructor", "Network", ""])
			expect(platformPermission(spelling)).toBeUndefined();
	});

	it("are listed once when spelled twice, required if either says so", () => {
		const permissions = [
			"network",
			{ type: "network-access", required: true },
			{ type: "network.request", required: false },
		];
		const manifest = parseManifest(JSON.stringify({ name: "a", permissions }), "manifest_json");
		expect(manifest.declaredPermissions).toEqual([
			{ permission: "network-access", spelling: "network", recognised: true, description: undefined, required: true },
		]);
	});
});

describe("what a manifest may not be", () => {
	const valid = { name: "Example", version: "1.0.0" };
	it.each([
		["", "is not JSON: is empty"],
		["[]", "is a list; expected an object"],
		["null", "is null; expected an object"],
		['{"name": "a", }', "is not JSON: "],
		['{"name": "a"', 'is not JSON: "}" is missing at the end'],
		[`${'{"a":'.repeat(200)}1${"}".repeat(200)}`, "is not JSON: nests deeper than 64 levels"],
		[JSON.stringify({ ...valid, x: "y".repeat(300_000) }), "at most 262144 are allowed"],
		[{ version: "1.0.0" }, "name: is missing"],
		[{ ...valid, name: 7 }, "name: is a number; expected a string"],
		[{ ...valid, name: "x".repeat(129) }, "name: has 129 characters"],
		[{ ...valid, name: "日本" }, "name: has no letter a-z or digit"],
		[{ ...valid, name: "Hub" }, 'name: makes the id "hub": "hub" is reserved'],
		[{ ...valid, id: "Not An Id" }, 'id: has "N" at position 1'],
		[{ ...valid, id: null }, "id: is null; expected a string"],
		[{ ...valid, version: "1.0" }, 'version: "1.0" is not a semantic version'],
		[{ ...valid, manifest_version: 3 }, "manifest_version: is 3; known are 1 and 2"],
		[{ ...valid, manifest_version: "2" }, 'manifest_version: is "2"; known are 1 and 2'],
		[{ ...valid, tags: "a,b" }, "tags: is a string; expected a list"],
		[{ ...valid, keywords: ["a", 4] }, "keywords[1]: is a number; expected a string"],
		[{ ...valid, categories: [" "] }, "categories[0]: is empty"],
		[{ ...valid, tags: Array(257).fill("a") }, "tags: has 257 entries; at most 256"],
		[{ ...valid, permissions: { network: true } }, "permissions: is an object; expected a list"],
		[{ ...valid, permissions: ["network", null] }, "permissions[1]: must be a permission's name"],
		[{ ...valid, permissions: ["a", "b", { type: 9 }] }, "permissions[2].type: is a number; expected a string"],
		[{ ...valid, permissions: [{ name: "network" }] }, "permissions[0].type: is missing"],
		[{ ...valid, permissions: [{ type: "network", required: "yes" }] }, "permissions[0].required: is a string"],
	])("is refused with the path: %#", (manifest, problem) => {
		const error = refusal(manifest);
		expect(error.reason).toBe("INVALID_MANIFEST");
		expect(error.message).toContain("manifest_json: ");
		expect(error.message).toContain(problem);
		expect(error.message.length).toBeLessThan(300);
	});

	it("is not fooled by names of the prototype", () => {
		const text = '{"name":"Example","__proto__":{"id":"other","permissions":["network"]},"constructor":{"x":1}}';
		const manifest = parseManifest(text, "manifest_json");
		expect(manifest.id).toBe("example");
		expect(manifest.declaredPermissions).toEqual([]);
		expect(({} as { id?: string }).id).toBeUndefined();
	});
});

describe("the slug of a name", () => {
	it.each([
		["Weather Widget", "weather-widget"],
		["  Ünïcode -- Näme!  ", "unicode-name"],
		["Ａ１", "a1"],
		["___", ""],
		["v2.0 (beta)", "v2-0-beta"],
		["İstanbul", "istanbul"],
		["ﷺ".repeat(128), ""],
	])("%j is %j", (name, expected) => {
		expect(slug(name)).toBe(expected);
	});
});
