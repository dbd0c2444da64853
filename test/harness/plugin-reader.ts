import { expect } from "vitest";
import type { Position } from "#gen/qirvo/hub/v1/payload_pb.js";
import type { Plugin, PluginServiceWatchResponse } from "#gen/qirvo/hub/v1/plugin_service_pb.js";
import { HubError } from "../../src/hub-error.ts";
import type { Caller } from "../../src/security/caller.ts";
import type { PluginWorld } from "./plugin-world.ts";

/** A reader that takes one frame at a time and keeps what it was told. */
export class PluginReader {
	readonly #abort = new AbortController();
	readonly #frames: AsyncGenerator<PluginServiceWatchResponse, void, undefined>;
	#pending: Promise<IteratorResult<PluginServiceWatchResponse, void>> | undefined;
	readonly known: Map<string, Plugin>;
	position: Position | undefined;
	caughtUp = false;

	constructor(hub: PluginWorld, caller: Caller, before?: PluginReader, pluginId = "") {
		const after = before?.position;
		this.known = after ? new Map(before!.known) : new Map();
		this.position = after;
		this.#frames = hub.watch(caller, { after, pluginId }, this.#abort.signal);
	}

	/** The next frame; "nothing" where none is there once all that can settle has settled. */
	async read(): Promise<PluginServiceWatchResponse | "nothing" | "end"> {
		this.#pending ??= this.#frames.next();
		const result = await Promise.race([this.#pending, settled()]);
		if (result === undefined) return "nothing";
		this.#pending = undefined;
		if (result.done) return "end";
		const frame = result.value;
		this.position = frame.position;
		if (frame.frame.case === "caughtUp") this.caughtUp = true;
		if (frame.frame.case === "batch") {
			expect(frame.frame.value.changes.length).toBeGreaterThan(0);
			for (const change of frame.frame.value.changes) {
				if (change.plugin) this.known.set(change.pluginId, change.plugin);
				else this.known.delete(change.pluginId);
			}
		}
		return frame;
	}

	/** Everything that is there now, in short: `ready`, `batch weather`, `caughtUp`, ... */
	async readAll(): Promise<string[]> {
		const all: string[] = [];
		for (let frame = await this.read(); typeof frame !== "string"; frame = await this.read()) {
			const ids = frame.frame.case === "batch" ? frame.frame.value.changes.map((change) => change.pluginId) : [];
			all.push([frame.frame.case, ...ids].join(" "));
		}
		return all;
	}

	/** As a caller that is gone. */
	async leave(reason = new HubError("CANCELLED", "gone")): Promise<unknown> {
		this.#abort.abort(reason);
		const pending = this.#pending ?? this.#frames.next();
		this.#pending = undefined;
		return await pending.catch((error) => error);
	}
}

async function settled(): Promise<undefined> {
	for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
	return undefined;
}
