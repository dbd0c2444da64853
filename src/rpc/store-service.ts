import type { BackupStoreRequest, RestoreStoreRequest } from "#gen/qirvo/hub/v1/store_backup_pb.js";
import { StoreService } from "#gen/qirvo/hub/v1/store_service_pb.js";
import type { StoreServiceWatchRequest } from "#gen/qirvo/hub/v1/store_watch_pb.js";
import type { Clock, IdSource } from "../clock/clock.ts";
import type { AuditRecorder } from "../security/audit-entry.ts";
import { type BackupStreamDeps, backupStore } from "./backup-stream.ts";
import { type Call, type MountedService, mount, Raw } from "./call.ts";
import { ChangeEncoder } from "./change-encoder.ts";
import { type EntryCallsDeps, entryCalls } from "./entry-calls.ts";
import { EntryIntake } from "./entry-intake.ts";
import { entryListing } from "./entry-listing.ts";
import { OpenStoreWatches, type OpenStoreWatchesOptions } from "./open-store-watches.ts";
import { PipelineStream } from "./pipeline-stream.ts";
import { type RestoreStreamDeps, restoreStore } from "./restore-stream.ts";
import { StoreAdmission, type StoreAdmissionDeps } from "./store-admission.ts";
import { type StoreCallsDeps, storeCalls } from "./store-calls.ts";
import { openStoreWatch, type StoreWatchDeps } from "./store-watch-stream.ts";
import type { StreamRegistry } from "./stream-ending.ts";

export interface StoreServiceDeps
	extends Omit<StoreCallsDeps, "admission">,
		Omit<StoreAdmissionDeps, "stores">,
		Omit<EntryCallsDeps, "intake">,
		Omit<BackupStreamDeps, "admission">,
		RestoreStreamDeps,
		Pick<StoreWatchDeps, "keyspaceOf">,
		Pick<OpenStoreWatchesOptions, "onPluginChange"> {
	/** Takes the records of watches that were ended. */
	readonly denials: AuditRecorder;
	readonly guard: StoreAdmissionDeps["guard"] & RestoreStreamDeps["guard"];
	readonly streams: StreamRegistry;
	readonly clock: Clock;
	readonly ids: IdSource;
}

/** Data that plugins share. */
export function createStoreService(given: StoreServiceDeps): MountedService {
	const admission = new StoreAdmission(given);
	const deps = { ...given, admission, intake: new EntryIntake(admission) };
	const { stores, onPluginChange, denials } = given;
	const watches = new OpenStoreWatches({ stores, onPluginChange, admission, audit: denials });
	const watching = { ...deps, watches, changes: new ChangeEncoder() };
	return mount(StoreService, {
		...storeCalls(deps),
		...entryCalls(deps),
		...entryListing(deps),
		backupStore: (request: BackupStoreRequest, call: Call) => backupStore(deps, request, call),
		restoreStore: (requests: AsyncIterable<RestoreStoreRequest>, call: Call) => restoreStore(deps, requests, call),
		watch: (request: StoreServiceWatchRequest, call: Call) => openStoreWatch(watching, request, call),
		pipeline: new Raw(
			(requests: AsyncIterable<Uint8Array>, call: Call) => new PipelineStream(deps, requests, call).responses,
		),
	});
}
