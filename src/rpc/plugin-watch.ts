import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
	PluginChangeSchema,
	type PluginServiceWatchRequest,
	type PluginServiceWatchResponseSchema,
} from "#gen/qirvo/hub/v1/plugin_service_pb.js";
import type { Clock, IdSource, Timer } from "../clock/clock.ts";
import type { Viewer } from "../plugins/access-control.ts";
import type { FeedChange, PluginFeed } from "../plugins/plugin-feed.ts";
import type { Registry } from "../plugins/registry.ts";
import { parsePluginId } from "../subjects/plugin-id.ts";
import type { Call } from "./call.ts";
import { PulledStream } from "./pulled-stream.ts";
import type { StreamRegistry } from "./stream-ending.ts";
import { readyFrame, streamFrames } from "./stream-frames.ts";

export interface PluginWatchDeps {
	readonly registry: Registry;
	readonly streams: StreamRegistry;
	readonly clock: Clock;
	readonly ids: IdSource;
}

type Frame = MessageInitShape<typeof PluginServiceWatchResponseSchema>;

const BATCH_CHANGES = 256;
const BATCH_BYTES = 1024 * 1024;

/** The frames of one watch: ready, the snapshot or what changed since `after`, caught_up, then every change. */
export async function openPluginWatch(
	deps: PluginWatchDeps,
	request: PluginServiceWatchRequest,
	viewer: Viewer,
	call: Call,
): Promise<PulledStream<Frame>> {
	const { after, pluginId } = request;
	const only = pluginId === "" ? undefined : parsePluginId(pluginId, "plugin_id");
	const position = after && { epoch: after.epoch, revision: Number(after.sequence) };
	const feed = await deps.registry.watch({ viewer, pluginId: only }, position, call.signal);
	try {
		return new PluginWatch(deps, call, feed).responses;
	} catch (error) {
		feed[Symbol.dispose]();
		throw error;
	}
}

class PluginWatch {
	readonly responses: PulledStream<Frame>;
	readonly #deps: PluginWatchDeps;
	readonly #feed: PluginFeed;
	#ready = false;
	#caughtUp = false;
	#owesCaughtUp = false;
	#isWaiting = false;
	#turn: Timer | undefined;

	constructor(deps: PluginWatchDeps, call: Call, feed: PluginFeed) {
		this.#deps = deps;
		this.#feed = feed;
		this.responses = new PulledStream({
			clock: deps.clock,
			call,
			// What may be seen is decided for each plugin at each change; there is no grant whose loss would end the watch.
			streams: deps.streams,
			frames: streamFrames((frame) => this.#frame(frame)),
			produce: () => this.#produce(),
			onEnd: () => {
				this.#turn?.cancel();
				feed[Symbol.dispose]();
			},
		});
	}

	#produce(): Frame | undefined {
		if (!this.#ready) {
			this.#ready = true;
			return this.#frame(readyFrame(this.#deps.ids.next()));
		}
		if (!this.#owesCaughtUp) {
			const changes = this.#feed.take(BATCH_CHANGES, BATCH_BYTES);
			this.#owesCaughtUp = !this.#caughtUp && this.#feed.caughtUp;
			if (changes.length > 0) {
				return this.#frame({ case: "batch", value: { changes: changes.map((change) => this.#show(change)) } });
			}
		}
		if (this.#owesCaughtUp) {
			this.#owesCaughtUp = false;
			this.#caughtUp = true;
			return this.#frame({ case: "caughtUp", value: {} });
		}
		this.#wait();
		return undefined;
	}

	/** Where the feed is only passing over plugins that are not shown, others get their turn first. */
	#wait(): void {
		if (this.#isWaiting) return;
		this.#isWaiting = true;
		const wake = () => {
			this.#isWaiting = false;
			this.responses.wake();
		};
		if (this.#feed.waiting) this.#turn = this.#deps.clock.after(0, wake);
		else void this.#feed.wait().then(wake);
	}

	#frame(frame: NonNullable<Frame["frame"]>): Frame {
		const revision = this.#feed.position;
		const position =
			revision === undefined ? undefined : { epoch: this.#deps.registry.index.epoch, sequence: BigInt(revision) };
		return { position, frame };
	}

	#show({ id, before, after }: FeedChange) {
		const { registry } = this.#deps;
		return create(PluginChangeSchema, {
			pluginId: id,
			plugin: after && registry.show(after),
			previous: before && registry.show(before),
		});
	}
}
