import { StoreService } from "#gen/qirvo/hub/v1/store_service_pb.js";
import type { Clock, IdSource } from "../clock/clock.ts";
import { type Call, type MountedService, mount, Raw } from "./call.ts";
import { type EntryCallsDeps, entryCalls } from "./entry-calls.ts";
import { EntryIntake } from "./entry-intake.ts";
import { entryListing } from "./entry-listing.ts";
import { PipelineStream } from "./pipeline-stream.ts";
import { StoreAdmission, type StoreAdmissionDeps } from "./store-admission.ts";
import { type StoreCallsDeps, storeCalls } from "./store-calls.ts";
import type { StreamRegistry } from "./stream-ending.ts";

export interface StoreServiceDeps
	extends Omit<StoreCallsDeps, "admission">,
		Omit<StoreAdmissionDeps, "stores">,
		Omit<EntryCallsDeps, "intake"> {
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
		pipeline: new Raw(
			(requests: AsyncIterable<Uint8Array>, call: Call) => new PipelineStream(deps, requests, call).responses,
		),
	});
}
