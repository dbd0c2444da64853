import type { BackupStoreRequest, RestoreStoreRequest } from "#gen/qirvo/hub/v1/store_backup_pb.js";
import { StoreService } from "#gen/qirvo/hub/v1/store_service_pb.js";
import type { StoreServiceWatchRequest } from "#gen/qirvo/hub/v1/store_watch_pb.js";
import type { Clock, IdSource } from "../clock/clock.ts";
import type { AuditRecorder } from "../security/audit-entry.ts";
import type { InstanceLeases } from "../stores/instance-leases.ts";
import type { OpenStore } from "../stores/open-store.ts";
import { type RestoredStore, StoreRestore } from "../stores/store-restore.ts";
import { StoreSnapshot } from "../stores/store-snapshot.ts";
import type { Stores } from "../stores/stores.ts";
import { backupStore } from "./backup-stream.ts";
import { type Call, type MountedService, mount, Raw } from "./call.ts";
import { ChangeEncoder } from "./change-encoder.ts";
import { entryCalls } from "./entry-calls.ts";
import { EntryIntake } from "./entry-intake.ts";
import { entryListing } from "./entry-listing.ts";
import { OpenStoreWatches, type OpenStoreWatchesOptions } from "./open-store-watches.ts";
import { PipelineStream } from "./pipeline-stream.ts";
import { type RestoreStreamDeps, restoreStore } from "./restore-stream.ts";
import { StoreAdmission, type StoreAdmissionDeps } from "./store-admission.ts";
import { type StoreAudit, type StoreCallsDeps, storeCalls } from "./store-calls.ts";
import { openStoreWatch } from "./store-watch-stream.ts";
import type { StreamRegistry } from "./stream-ending.ts";

export interface StoreServiceDeps
	extends Pick<StoreCallsDeps, "registry">,
		Pick<StoreAdmissionDeps, "plugins">,
		Pick<OpenStoreWatchesOptions, "onPluginChange"> {
	readonly stores: Stores;
	readonly leases: InstanceLeases;
	readonly guard: StoreAdmissionDeps["guard"] & RestoreStreamDeps["guard"];
	readonly audit: StoreAudit & AuditRecorder;
	readonly streams: StreamRegistry;
	readonly clock: Clock;
	readonly ids: IdSource;
}

/** Data that plugins share. */
export function createStoreService(given: StoreServiceDeps): MountedService {
	const { stores, audit, onPluginChange, leases, ids } = given;
	const { definitions } = stores;
	const admission = new StoreAdmission({ ...given, stores: definitions });
	const keyspaceOf = (store: { readonly persistent: boolean }) => stores.keyspaceOf(store);
	const restoring = { definitions, keyspaceOf, leases, ids };
	const deps = {
		...given,
		stores: definitions,
		entries: stores,
		admission,
		intake: new EntryIntake(admission),
		watches: new OpenStoreWatches({ stores: definitions, onPluginChange, admission, audit }),
		changes: new ChangeEncoder(),
		keyspaceOf: (store: OpenStore) => stores.keyspaceOf(store).kv,
		snapshots: {
			open: (store: OpenStore) => new StoreSnapshot({ kv: stores.keyspaceOf(store).kv, storeId: store.id }),
		},
		restores: { begin: (store: RestoredStore) => new StoreRestore(restoring, store) },
	};
	return mount(StoreService, {
		...storeCalls(deps),
		...entryCalls(deps),
		...entryListing(deps),
		backupStore: (request: BackupStoreRequest, call: Call) => backupStore(deps, request, call),
		restoreStore: (requests: AsyncIterable<RestoreStoreRequest>, call: Call) => restoreStore(deps, requests, call),
		watch: (request: StoreServiceWatchRequest, call: Call) => openStoreWatch(deps, request, call),
		pipeline: new Raw(
			(requests: AsyncIterable<Uint8Array>, call: Call) => new PipelineStream(deps, requests, call).responses,
		),
	});
}
