import type { BackupStoreRequest, RestoreStoreRequest } from "#gen/qirvo/hub/v1/store_backup_pb.js";
import { StoreService } from "#gen/qirvo/hub/v1/store_service_pb.js";
import type { Clock, IdSource } from "../clock/clock.ts";
import { type BackupStreamDeps, backupStore } from "./backup-stream.ts";
import { type Call, type MountedService, mount, Raw } from "./call.ts";
import { type EntryCallsDeps, entryCalls } from "./entry-calls.ts";
import { EntryIntake } from "./entry-intake.ts";
import { entryListing } from "./entry-listing.ts";
import { PipelineStream } from "./pipeline-stream.ts";
import { type RestoreStreamDeps, restoreStore } from "./restore-stream.ts";
import { StoreAdmission, type StoreAdmissionDeps } from "./store-admission.ts";
import { type StoreCallsDeps, storeCalls } from "./store-calls.ts";
import type { StreamRegistry } from "./stream-ending.ts";

export interface StoreServiceDeps
	extends Omit<StoreCallsDeps, "admission">,
		Omit<StoreAdmissionDeps, "stores">,
		Omit<EntryCallsDeps, "intake">,
		Omit<BackupStreamDeps, "admission">,
		RestoreStreamDeps {
	readonly guard: StoreAdmissionDeps["guard"] & RestoreStreamDeps["guard"];
	readonly streams: StreamRegistry;
	readonly clock: Clock;
	readonly ids: IdSource;
}

/** Data that plugins share. */
export function createStoreService(given: StoreServiceDeps): MountedService {
	const admission = new StoreAdmission(given);
	const deps = { ...given, admission, intake: new EntryIntake(admission) };
	return mount(StoreService, {
		...storeCalls(deps),
		...entryCalls(deps),
		...entryListing(deps),
		backupStore: (request: BackupStoreRequest, call: Call) => backupStore(deps, request, call),
		restoreStore: (requests: AsyncIterable<RestoreStoreRequest>, call: Call) => restoreStore(deps, requests, call),
		pipeline: new Raw(
			(requests: AsyncIterable<Uint8Array>, call: Call) => new PipelineStream(deps, requests, call).responses,
		),
	});
}
