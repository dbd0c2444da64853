import { afterEach, expect } from "vitest";
import { PluginWorld, type WorldOptions } from "./plugin-world.ts";

/** What opens a world. After each test those that were opened are closed, and must have let go of everything. */
export function openWorlds(): (options?: WorldOptions) => Promise<PluginWorld> {
	let opened: PluginWorld[] = [];
	afterEach(async () => {
		const all = opened;
		opened = [];
		for (const one of all) await one[Symbol.asyncDispose]();
		for (const one of all) {
			expect(one.clock.pendingTimers).toBe(0);
			expect(one.openStreams.size).toBe(0);
		}
	});
	return async (options) => {
		const made = await PluginWorld.open(options);
		opened.push(made);
		return made;
	};
}
