import { create, fromBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type InstanceRecord, InstanceRecordSchema, PluginRecordSchema } from "#gen/qirvo/hub/storage/v1/records_pb.js";
import {
	type Capabilities,
	CapabilitiesSchema,
	type Plugin,
	PluginInstanceSchema,
	PluginSchema,
	PluginState,
} from "#gen/qirvo/hub/v1/plugin_service_pb.js";

/** A stored registration. Decoded when somebody first looks into it: most of 10,000 are not looked into at a start. */
export class Registration {
	readonly id: string;
	/** The revision of its key; 0 for one read back from the change window, where it is not known. */
	readonly revision: number;
	/** Bytes of the stored form. */
	readonly byteLength: number;
	#bytes: Uint8Array | undefined;
	#plugin: Plugin | undefined;

	constructor(id: string, revision: number, bytes: Uint8Array) {
		this.id = id;
		this.revision = revision;
		this.byteLength = bytes.byteLength;
		this.#bytes = bytes;
	}

	/** As stored: without instances and revision. Shared; not to be changed. */
	get plugin(): Plugin {
		if (this.#plugin === undefined) {
			this.#plugin = fromBinary(PluginRecordSchema, this.#bytes ?? new Uint8Array()).plugin ?? create(PluginSchema);
			this.#bytes = undefined;
		}
		return this.#plugin;
	}
}

/** A stored instance; decoded like a registration, when somebody looks into it. */
export class StoredInstance {
	readonly id: string;
	#stored: Uint8Array | InstanceRecord;

	constructor(id: string, stored: Uint8Array | InstanceRecord) {
		this.id = id;
		this.#stored = stored;
	}

	/** Milliseconds since the Unix epoch. */
	get startTime(): number {
		return Number(this.#record().startTimeMs);
	}

	/** The hub node that keeps its lease. */
	get nodeId(): string {
		return this.#record().nodeId;
	}

	#record(): InstanceRecord {
		if (this.#stored instanceof Uint8Array) this.#stored = fromBinary(InstanceRecordSchema, this.#stored);
		return this.#stored;
	}
}

/** A registration with its presence, as of one revision. Immutable. */
export class KnownPlugin {
	readonly registration: Registration;
	/** In order of id. At most 256. */
	readonly instances: readonly StoredInstance[];
	/** Whether an instance was there since it was registered. */
	readonly wasThere: boolean;

	constructor(registration: Registration, instances: readonly StoredInstance[], wasThere: boolean) {
		this.registration = registration;
		this.instances = instances;
		this.wasThere = wasThere;
	}

	get id(): string {
		return this.registration.id;
	}

	get revision(): number {
		return this.registration.revision;
	}

	get capabilities(): Capabilities {
		return this.registration.plugin.capabilities ?? NO_CAPABILITIES;
	}

	get disabled(): boolean {
		return this.registration.plugin.state === PluginState.DISABLED;
	}

	get state(): PluginState {
		return stateOf(this.disabled, this.instances.length, this.wasThere);
	}
}

const NO_CAPABILITIES = create(CapabilitiesSchema);

/** Where a plugin stands: an operator's word first, then whether instances are there, then whether one ever was. */
export function stateOf(disabled: boolean, instances: number, wasThere: boolean): PluginState {
	if (disabled) return PluginState.DISABLED;
	if (instances > 0) return PluginState.ONLINE;
	return wasThere ? PluginState.OFFLINE : PluginState.REGISTERED;
}

/** The plugin as callers see it. `leaseEnd` gives the end of an instance's lease in milliseconds since the Unix epoch. */
export function showPlugin(
	known: KnownPlugin,
	leaseEnd: (pluginId: string, instanceId: string) => number | undefined,
): Plugin {
	return {
		...known.registration.plugin,
		state: known.state,
		revision: BigInt(known.revision),
		instances: known.instances.map((instance) => {
			const end = leaseEnd(known.id, instance.id);
			return create(PluginInstanceSchema, {
				id: instance.id,
				startTime: timestampFromMs(instance.startTime),
				leaseExpireTime: end === undefined ? undefined : timestampFromMs(end),
			});
		}),
	};
}
