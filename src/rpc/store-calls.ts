import { create } from "@bufbuild/protobuf";
import type {
	CreateStoreRequest,
	DeleteStoreRequest,
	GetStoreRequest,
	ListStoresRequest,
	TransferStoreRequest,
	UpdateStoreRequest,
} from "#gen/qirvo/hub/v1/stores_pb.js";
import {
	CreateStoreRequestSchema,
	DeleteStoreRequestSchema,
	StoreConfigSchema,
	TransferStoreRequestSchema,
	UpdateStoreRequestSchema,
} from "#gen/qirvo/hub/v1/stores_pb.js";
import { HubError } from "../hub-error.ts";
import { principalOf } from "../security/caller.ts";
import type { KvWrite } from "../state/kv-store.ts";
import type { ChangedStore } from "../stores/store-change.ts";
import type { StoreDefinitions } from "../stores/store-definitions.ts";
import { parsePluginId } from "../subjects/plugin-id.ts";
import { parseStoreName } from "../subjects/store-name.ts";
import type { Call } from "./call.ts";
import { parseExpectedState } from "./expected-state.ts";
import { decodePageToken, encodePageToken, pageSizeOf } from "./page-token.ts";
import { repeatable } from "./repeatable-request.ts";
import { type StoreAdmission, writerOf } from "./store-admission.ts";
import { parseStoreConfig } from "./store-config-request.ts";

/** A control decision about a store, for the audit. */
export interface StoreAuditEntry {
	readonly event: "store_created" | "store_updated" | "store_deleted" | "store_transferred" | "store_restored";
	readonly actor: string;
	readonly target: string;
	readonly details?: Readonly<Record<string, string>>;
	readonly requestId?: string;
}

/** Makes the audit record of a change of a store: a write for the change's own commit, and what to do once it is stored. */
export interface StoreAudit {
	change(entry: StoreAuditEntry): { readonly write: KvWrite; settle(): Promise<void> };
}

/** Which plugins a store may be given to. */
export interface PluginLookup {
	/** Throws PLUGIN_NOT_FOUND where no such plugin is registered, or the viewer may not know of it. */
	get(pluginId: string, viewer: string | undefined): unknown;
}

export interface StoreCallsDeps {
	readonly stores: StoreDefinitions;
	readonly registry: PluginLookup;
	readonly admission: StoreAdmission;
	readonly audit: StoreAudit;
}

const PAGE_SIZES = { usual: 50, most: 500 };

/** The RPCs of StoreService that are about stores and not about entries. */
export function storeCalls({ stores, registry, admission, audit }: StoreCallsDeps) {
	/** Runs a change with its audit record. */
	const audited = async (
		call: Call,
		event: StoreAuditEntry["event"],
		name: string,
		run: (also: readonly KvWrite[]) => Promise<ChangedStore>,
		details?: Readonly<Record<string, string>>,
	) => {
		const { requestId } = call;
		const change = audit.change({
			event,
			actor: principalOf(call.caller),
			target: `store:${name}`,
			details,
			requestId,
		});
		const changed = await run([change.write]);
		if (changed.stored) await change.settle();
		return { store: changed.store.show(), duplicate: changed.duplicate };
	};

	return {
		async createStore(request: CreateStoreRequest, call: Call) {
			const owner = writerOf(call);
			const name = parseStoreName(request.name, "name");
			const config = parseStoreConfig(request.config ?? create(StoreConfigSchema), "config");
			const once = repeatable(call, "store.create", CreateStoreRequestSchema, request);
			const admit = () => admission.admitNew(call, name);
			const change = { expected: { kind: "any" }, validateOnly: request.validateOnly, request: once, admit } as const;
			const details = { persistent: String(config.persistent ?? true) };
			return await audited(
				call,
				"store_created",
				name,
				(also) => stores.create(name, owner, config, { ...change, also }),
				details,
			);
		},

		async getStore(request: GetStoreRequest, call: Call) {
			return { store: admission.admit(call, parseStoreName(request.name, "name"), "see").show() };
		},

		async listStores(request: ListStoresRequest, call: Call) {
			const size = pageSizeOf(request.pageSize, PAGE_SIZES);
			const owner = request.owner === "" ? undefined : parsePluginId(request.owner, "owner");
			const query = ["stores", principalOf(call.caller), owner];
			const after = decodePageToken(query, request.pageToken);
			const page = stores.page(size, after, admission.shows(call.caller), owner);
			return {
				stores: page.stores.map((store) => store.show()),
				nextPageToken: encodePageToken(query, page.next),
			};
		},

		async updateStore(request: UpdateStoreRequest, call: Call) {
			const name = parseStoreName(request.name, "name");
			if (request.config === undefined) throw HubError.field("config", "is required");
			const config = parseStoreConfig(request.config, "config");
			const expected = parseExpectedState(request.expected, "expected");
			const once = repeatable(call, "store.update", UpdateStoreRequestSchema, request);
			const admit = () => void admission.admit(call, name, "administer");
			const change = { expected, validateOnly: request.validateOnly, request: once, admit };
			return await audited(call, "store_updated", name, (also) => stores.update(name, config, { ...change, also }));
		},

		async deleteStore(request: DeleteStoreRequest, call: Call) {
			const name = parseStoreName(request.name, "name");
			const expected = parseExpectedState(request.expected, "expected");
			const once = repeatable(call, "store.delete", DeleteStoreRequestSchema, request);
			const admit = () => void admission.admit(call, name, "own");
			const change = { expected, validateOnly: request.validateOnly, request: once, admit };
			const { duplicate } = await audited(call, "store_deleted", name, (also) =>
				stores.delete(name, { ...change, also }),
			);
			return { duplicate };
		},

		async transferStore(request: TransferStoreRequest, call: Call) {
			const name = parseStoreName(request.name, "name");
			const newOwner = parsePluginId(request.newOwner, "new_owner");
			const expected = parseExpectedState(request.expected, "expected");
			const once = repeatable(call, "store.transfer", TransferStoreRequestSchema, request);
			const admit = () => {
				admission.admit(call, name, "own");
				registry.get(newOwner, call.caller.kind === "plugin" ? call.caller.id : undefined);
			};
			const change = { expected, validateOnly: request.validateOnly, request: once, admit };
			return await audited(
				call,
				"store_transferred",
				name,
				(also) => stores.transfer(name, newOwner, { ...change, also }),
				{ new_owner: newOwner },
			);
		},
	};
}
