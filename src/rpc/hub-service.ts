import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { HubService } from "#gen/qirvo/hub/v1/hub_service_pb.js";
import type { Clock } from "../clock/clock.ts";
import type { PeerBus } from "../state/peer-bus.ts";
import { type MountedService, mount } from "./call.ts";
import type { StateBackups } from "./state-backups.ts";

/** Facts about this hub that do not change while it runs. Times in milliseconds, sizes in bytes. */
export interface HubFacts {
	readonly version: string;
	readonly backend: string;
	readonly durable: boolean;
	readonly startTime: number;
	readonly eventEpoch: string;
	readonly devMode: boolean;
	readonly limits: {
		readonly maxContentBytes: number;
		readonly maxJsonDepth: number;
		readonly maxBatchEntries: number;
		readonly maxBatchBytes: number;
		readonly maxPatterns: number;
		readonly maxSubscriptions: number;
		readonly maxMailboxMessages: number;
		readonly maxMailboxBytes: number;
		readonly idWindowMs: number;
		readonly leaseMs: number;
		readonly maxManifestBytes: number;
	};
}

/** What this hub is, what it offers and which nodes it consists of. */
export function createHubService(deps: {
	readonly facts: HubFacts;
	readonly bus: PeerBus;
	readonly clock: Clock;
	readonly backups: StateBackups;
}): MountedService {
	const { facts, bus, clock, backups } = deps;
	const { limits } = facts;
	return mount(HubService, {
		async getHubInfo() {
			return {
				version: facts.version,
				nodeId: bus.nodeId,
				backend: facts.backend,
				durable: facts.durable,
				startTime: timestampFromMs(facts.startTime),
				hubTime: timestampFromMs(clock.now()),
				eventEpoch: facts.eventEpoch,
				devMode: facts.devMode,
				limits: {
					maxContentBytes: BigInt(limits.maxContentBytes),
					maxJsonDepth: limits.maxJsonDepth,
					maxBatchEntries: limits.maxBatchEntries,
					maxBatchBytes: BigInt(limits.maxBatchBytes),
					maxPatterns: limits.maxPatterns,
					maxSubscriptions: limits.maxSubscriptions,
					maxMailboxMessages: limits.maxMailboxMessages,
					maxMailboxBytes: BigInt(limits.maxMailboxBytes),
					idWindow: durationFromMs(limits.idWindowMs),
					lease: durationFromMs(limits.leaseMs),
					maxManifestBytes: BigInt(limits.maxManifestBytes),
				},
				features: {
					durableMessages: true,
					durableSubscriptions: true,
					stores: true,
					topics: true,
					routes: true,
					intercept: true,
					stateBackup: facts.durable,
				},
			};
		},
		backupState: (_, call) => backups.stream(call),
		async listNodes() {
			return {
				nodes: bus.nodes().map((node) => ({
					id: node.id,
					version: node.version,
					startTime: timestampFromMs(node.startTime),
					self: node.id === bus.nodeId,
				})),
			};
		},
	});
}
