import { create, toBinary } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { Entry } from "#gen/qirvo/hub/v1/entries_pb.js";
import { PayloadSchema } from "#gen/qirvo/hub/v1/payload_pb.js";
import type { OpenRestore, RestoreStoreRequest } from "#gen/qirvo/hub/v1/store_backup_pb.js";
import { type Store, StoreConfigSchema } from "#gen/qirvo/hub/v1/stores_pb.js";
import { HubError } from "../hub-error.ts";
import { principalOf } from "../security/caller.ts";
import type { Guard } from "../security/guard.ts";
import { BackupReader } from "../stores/backup-lines.ts";
import type { RestoredEntry, RestoredStore, StoreRestore } from "../stores/store-restore.ts";
import { parsePluginId } from "../subjects/plugin-id.ts";
import { parseStoreName } from "../subjects/store-name.ts";
import type { Call } from "./call.ts";
import { parseKey } from "./entry-operations.ts";
import { readEntryValue } from "./entry-value.ts";
import type { StoreAudit } from "./store-calls.ts";
import { parseStoreConfig } from "./store-config-request.ts";
import { endWith, type StreamRegistry } from "./stream-ending.ts";

export interface RestoreStreamDeps {
	readonly restores: { begin(store: RestoredStore): StoreRestore };
	readonly guard: Pick<Guard, "contentProblem">;
	readonly audit: StoreAudit;
	readonly streams: StreamRegistry;
}

/** How it goes, after each so many entries at least. */
const PROGRESS_ENTRIES = 1000;

interface Progress {
	readonly entries: bigint;
	readonly done: boolean;
}

/** One `RestoreStore` call. What it has written is taken away again unless all of it is read and holds. */
export async function* restoreStore(
	deps: RestoreStreamDeps,
	requests: AsyncIterable<RestoreStoreRequest>,
	call: Call,
): AsyncGenerator<Progress, void, undefined> {
	if (call.caller.kind !== "operator") throw new HubError("CALLER_NOT_ALLOWED", "stores are restored by operators");
	const stop = new AbortController();
	using _registered = endWith(
		call,
		deps.streams,
		() => {},
		(error) => stop.abort(error),
	);
	const reader = new BackupReader();
	let told = 0;
	let open: OpenRestore | undefined;
	let restore: StoreRestore | undefined;
	try {
		for await (const { frame } of requests) {
			stop.signal.throwIfAborted();
			if (frame.case === "open" && open === undefined) {
				open = frame.value;
				continue;
			}
			if (frame.case !== "lines" || open === undefined) throw HubError.field("frame", outOfOrder(open));
			for (const line of frame.value.lines) {
				const read = reader.read(line);
				if (read.kind === "store") restore = deps.restores.begin(storeOf(read.store, open, reader));
				else if (read.kind === "entry") {
					const written = restore!.add(entryOf(read.entry, reader, deps.guard));
					if (written !== undefined) await written;
				}
				stop.signal.throwIfAborted();
			}
			if (reader.entries - told < PROGRESS_ENTRIES) continue;
			told = reader.entries;
			yield { entries: BigInt(told), done: false };
		}
		if (restore === undefined || !reader.ended) throw reader.damaged("is not the last one of a backup");
		await finish(restore, deps.audit, call);
	} finally {
		restore?.abandon();
	}
	yield { entries: BigInt(reader.entries), done: true };
}

async function finish(restore: StoreRestore, audit: StoreAudit, call: Call): Promise<void> {
	const change = audit.change({
		event: "store_restored",
		actor: principalOf(call.caller),
		target: `store:${restore.name}`,
		details: { owner: restore.owner },
		requestId: call.requestId,
	});
	const { stored } = await restore.finish({ expected: { kind: "any" }, validateOnly: false, also: [change.write] });
	if (stored) await change.settle();
}

function outOfOrder(open: OpenRestore | undefined): string {
	return open === undefined ? "must be open in the first request" : "must be lines in all requests but the first";
}

function storeOf(store: Store, open: OpenRestore, reader: BackupReader): RestoredStore {
	const name = open.name === "" ? undefined : parseStoreName(open.name, "open.name");
	const owner = open.owner === "" ? undefined : parsePluginId(open.owner, "open.owner");
	return {
		verifyOnly: open.verifyOnly,
		...judged(reader, () => ({
			name: name ?? parseStoreName(store.name, "name"),
			owner: owner ?? parsePluginId(store.owner, "owner"),
			config: parseStoreConfig(store.config ?? create(StoreConfigSchema), "config"),
		})),
	};
}

function entryOf(entry: Entry, reader: BackupReader, guard: RestoreStreamDeps["guard"]): RestoredEntry {
	return judged(reader, () => {
		const { key, createTime, updateTime, expireTime, writer, instanceId } = entry;
		const value = readEntryValue(entry.value && toBinary(PayloadSchema, entry.value));
		const problem = guard.contentProblem(value);
		if (problem !== undefined) throw problem;
		if (createTime === undefined || updateTime === undefined) throw HubError.field("update_time", "is required");
		return {
			key: parseKey(key, "key"),
			value: value.wire,
			createTime: timestampMs(createTime),
			updateTime: timestampMs(updateTime),
			expireTime: expireTime === undefined ? 0 : timestampMs(expireTime),
			writer: parsePluginId(writer, "writer"),
			instanceId,
		};
	});
}

/** What is out of its bounds was not written by a backup. */
function judged<T>(reader: BackupReader, run: () => T): T {
	try {
		return run();
	} catch (error) {
		throw error instanceof HubError ? reader.damaged(error.message, error) : error;
	}
}
