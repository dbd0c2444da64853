import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import {
	PluginChangeSchema,
	type PluginServiceWatchRequest,
	type PluginServiceWatchResponseSchema,
} from "#gen/qirvo/hub/v1/plugin_service_pb.js";
import type { Clock, IdSource } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import type { Viewer } from "../plugins/access-control.ts";
import type { FeedChange, PluginFeed } from "../plugins/plugin-feed.ts";
import type { Registry } from "../plugins/registry.ts";
import type { Caller } from "../security/caller.ts";
import { parsePluginId } from "../subjects/plugin-id.ts";
import type { Call } from "./call.ts";

/** Keeps the open streams, so that a change of policy ends those that it concerns. */
interface StreamKeeper {
	open(caller: Caller, stream: { recheck(): void; revoke(error: HubError): void }): Disposable;
}

export interface PluginWatchDeps {
	readonly registry: Registry;
	readonly streams: StreamKeeper;
	readonly clock: Clock;
	readonly ids: IdSource;
}

type Frame = MessageInitShape<typeof PluginServiceWatchResponseSchema>;

const HEARTBEAT_MS = 15_000;
const BATCH_CHANGES = 256;
const BATCH_BYTES = 1024 * 1024;

/** The frames of one watch: ready, the snapshot or what changed since `after`, caught_up, then every change. */
export async function* watchPlugins(
	deps: PluginWatchDeps,
	request: PluginServiceWatchRequest,
	viewer: Viewer,
	call: Call,
): AsyncGenerator<Frame, void, undefined> {
	const watch = await PluginWatch.open(deps, request, viewer, call);
	try {
		yield* watch.frames();
	} finally {
		watch.release();
	}
}

class PluginWatch {
	readonly #deps: PluginWatchDeps;
	readonly #call: Call;
	readonly #feed: PluginFeed;
	#stream: Disposable | undefined;
	#ending: unknown;
	#interrupt: (() => void) | undefined;

	private constructor(deps: PluginWatchDeps, call: Call, feed: PluginFeed) {
		this.#deps = deps;
		this.#call = call;
		this.#feed = feed;
	}

	static async open(
		deps: PluginWatchDeps,
		{ after, pluginId }: PluginServiceWatchRequest,
		viewer: Viewer,
		call: Call,
	): Promise<PluginWatch> {
		const only = pluginId === "" ? undefined : parsePluginId(pluginId, "plugin_id");
		const position = after && { epoch: after.epoch, revision: Number(after.sequence) };
		const feed = await deps.registry.watch({ viewer, pluginId: only }, position, call.signal);
		const watch = new PluginWatch(deps, call, feed);
		try {
			watch.#attach();
			return watch;
		} catch (error) {
			watch.release();
			throw error;
		}
	}

	async *frames(): AsyncGenerator<Frame, void, undefined> {
		const ready = { id: this.#deps.ids.next(), heartbeatInterval: durationFromMs(HEARTBEAT_MS) };
		yield this.#frame({ case: "ready", value: ready });
		let caughtUp = false;
		while (this.#ending === undefined) {
			const changes = this.#feed.take(BATCH_CHANGES, BATCH_BYTES);
			const ends = !caughtUp && this.#feed.caughtUp;
			if (changes.length > 0) {
				yield this.#frame({ case: "batch", value: { changes: changes.map((change) => this.#show(change)) } });
			}
			if (ends && this.#ending === undefined) {
				caughtUp = true;
				yield this.#frame({ case: "caughtUp", value: {} });
			} else if (changes.length === 0 && this.#ending === undefined && (await this.#idle())) {
				yield this.#frame({ case: "heartbeat", value: {} });
			}
		}
		yield* this.#farewell();
		throw this.#ending;
	}

	/** Idempotent. Also called when the call ends while a frame waits to be taken: then nobody may ask for the next. */
	release(): void {
		this.#call.signal.removeEventListener("abort", this.#onAbort);
		this.#stream?.[Symbol.dispose]();
		this.#feed[Symbol.dispose]();
	}

	readonly #onAbort = (): void => {
		this.#end(this.#call.signal.reason);
		this.release();
	};

	#attach(): void {
		this.#call.signal.throwIfAborted();
		this.#call.signal.addEventListener("abort", this.#onAbort, { once: true });
		// What may be seen is decided for each plugin at each change; there is no grant whose loss would end the watch.
		this.#stream = this.#deps.streams.open(this.#call.caller, { recheck() {}, revoke: (error) => this.#end(error) });
	}

	#end(error: unknown): void {
		this.#ending ??= error;
		this.#interrupt?.();
	}

	/**
	 * Waits for something to tell. True where nothing came for so long that a heartbeat is due. Where the feed is only
	 * passing over plugins that are not shown, others get their turn first.
	 */
	async #idle(): Promise<boolean> {
		let isDue = false;
		const { promise, resolve } = Promise.withResolvers<void>();
		this.#interrupt = resolve;
		const isBusy = this.#feed.waiting;
		const timer = this.#deps.clock.after(isBusy ? 0 : HEARTBEAT_MS, () => {
			isDue = !isBusy;
			resolve();
		});
		if (!isBusy) void this.#feed.wait().then(resolve);
		await promise;
		timer.cancel();
		return isDue && this.#ending === undefined;
	}

	*#farewell(): Generator<Frame> {
		const error = this.#ending;
		if (!(error instanceof HubError)) return;
		if (error.reason === "HUB_DRAINING") yield this.#frame({ case: "draining", value: {} });
		else if (error.reason !== "CANCELLED" && error.reason !== "DEADLINE_EXCEEDED") {
			yield this.#frame({ case: "revoked", value: { reason: error.reason, message: error.message } });
		}
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
