import { create, type DescMessage, fromBinary, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";
import { EventSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import {
	DisableRequestSchema,
	DisableResponseSchema,
	EnableRequestSchema,
	EnableResponseSchema,
	HeartbeatRequestSchema,
	HeartbeatResponseSchema,
	PluginServiceGetRequestSchema,
	PluginServiceGetResponseSchema,
	PluginServiceListRequestSchema,
	PluginServiceListResponseSchema,
	PluginServiceUpdateRequestSchema,
	PluginServiceUpdateResponseSchema,
	PluginServiceWatchRequestSchema,
	type PluginServiceWatchResponse,
	PluginServiceWatchResponseSchema,
	RegisterRequestSchema,
	RegisterResponseSchema,
	UnregisterRequestSchema,
	UnregisterResponseSchema,
} from "#gen/qirvo/hub/v1/plugin_service_pb.js";
import type { HubError } from "../../src/hub-error.ts";
import { FirstAnswers, type FirstAnswersOptions } from "../../src/idempotency/first-answers.ts";
import { decodeOutbox } from "../../src/outbox/outbox.ts";
import { Registry, type RegistryOptions } from "../../src/plugins/registry.ts";
import type { AnyHandler, Call } from "../../src/rpc/call.ts";
import { type ControlEntry, createPluginService, type DevCredentials } from "../../src/rpc/plugin-service.ts";
import type { AuditEntry } from "../../src/security/audit-entry.ts";
import { ANONYMOUS, type Caller } from "../../src/security/caller.ts";
import type { KvEntry } from "../../src/state/kv-store.ts";
import { openMemoryState } from "../../src/state/memory/open-memory-state.ts";
import { prefixEnd, type StateBackend } from "../../src/state/state-backend.ts";
import { FakeClock, SequentialIds } from "./fake-clock.ts";
import { unhurriedKv } from "./kv-wrapper.ts";

export const OPERATOR: Caller = { kind: "operator", id: "root", credentialId: "c", expiresAt: undefined };

export function plugin(id: string): Caller {
	return { kind: "plugin", id, credentialId: "c", expiresAt: undefined };
}

/** The manifest of a plugin, as its author would write it. */
export function manifest(id: string | undefined, more: Record<string, unknown> = {}): string {
	return JSON.stringify({ id, name: `Plugin ${id}`, version: "1.0.0", type: "service", ...more });
}

/** A lifecycle event as the outbox holds it. */
export interface Told {
	readonly type: string;
	readonly topic: string;
	readonly source: string;
	readonly subject: string;
	readonly id: string;
	readonly data: Record<string, unknown>;
}

export interface WorldOptions {
	readonly clock?: FakeClock;
	readonly ids?: SequentialIds;
	/** State to open again, as after a restart. */
	readonly state?: StateBackend;
	readonly registry?: Partial<RegistryOptions>;
	readonly answers?: Partial<FirstAnswersOptions>;
	readonly devCredentials?: DevCredentials;
}

/** PluginService with everything behind it, on memory state and a held clock, called without a wire. */
export class PluginWorld implements AsyncDisposable {
	readonly clock: FakeClock;
	readonly ids: SequentialIds;
	readonly state: StateBackend;
	readonly answers: FirstAnswers;
	readonly registry: Registry;
	readonly audited: ControlEntry[] = [];
	readonly denials: AuditEntry[] = [];
	/** Ends the streams that are open, as a change of policy would. */
	readonly openStreams = new Set<(error: HubError) => void>();
	readonly #handlers: Readonly<Record<string, AnyHandler>>;

	private constructor(options: WorldOptions) {
		this.clock = options.clock ?? new FakeClock();
		this.ids = options.ids ?? new SequentialIds();
		this.state = options.state ?? openMemoryState({ clock: this.clock, ids: this.ids });
		const base = { kv: unhurriedKv(this.state.kv), bus: this.state.bus, clock: this.clock, ids: this.ids };
		this.answers = new FirstAnswers({ ...base, ...options.answers });
		this.registry = new Registry({ ...base, answers: this.answers, ...options.registry });
		const service = createPluginService({
			registry: this.registry,
			clock: this.clock,
			ids: this.ids,
			devCredentials: options.devCredentials,
			streams: {
				open: (_, { revoke }) => {
					this.openStreams.add(revoke);
					return { [Symbol.dispose]: () => void this.openStreams.delete(revoke) };
				},
			},
			audit: {
				record: (entry) => void this.denials.push(entry),
				change: (entry) => ({
					write: { key: `outbox/audit/${this.ids.next()}`, value: Buffer.from(JSON.stringify(entry)) },
					settle: async () => void this.audited.push(entry),
				}),
			},
		});
		this.#handlers = service.handlers;
	}

	static async open(options: WorldOptions = {}): Promise<PluginWorld> {
		const world = new PluginWorld(options);
		await world.answers.start();
		await world.registry.start();
		return world;
	}

	register(caller: Caller, request: MessageInitShape<typeof RegisterRequestSchema> = {}) {
		const own = caller.kind === "plugin" ? { manifestJson: manifest(caller.id) } : {};
		return this.#call("register", caller, RegisterRequestSchema, { ...own, ...request }, RegisterResponseSchema);
	}

	get(caller: Caller, pluginId: string) {
		return this.#call("get", caller, PluginServiceGetRequestSchema, { pluginId }, PluginServiceGetResponseSchema);
	}

	list(caller: Caller, request: MessageInitShape<typeof PluginServiceListRequestSchema> = {}) {
		return this.#call("list", caller, PluginServiceListRequestSchema, request, PluginServiceListResponseSchema);
	}

	update(caller: Caller, request: MessageInitShape<typeof PluginServiceUpdateRequestSchema>) {
		return this.#call("update", caller, PluginServiceUpdateRequestSchema, request, PluginServiceUpdateResponseSchema);
	}

	unregister(caller: Caller, request: MessageInitShape<typeof UnregisterRequestSchema> = {}) {
		return this.#call("unregister", caller, UnregisterRequestSchema, request, UnregisterResponseSchema);
	}

	heartbeat(caller: Caller, instanceId: string) {
		return this.#call("heartbeat", caller, HeartbeatRequestSchema, { instanceId }, HeartbeatResponseSchema);
	}

	disable(caller: Caller, request: MessageInitShape<typeof DisableRequestSchema>) {
		return this.#call("disable", caller, DisableRequestSchema, request, DisableResponseSchema);
	}

	enable(caller: Caller, request: MessageInitShape<typeof EnableRequestSchema>) {
		return this.#call("enable", caller, EnableRequestSchema, request, EnableResponseSchema);
	}

	/** The frames of a watch, until `signal` aborts. */
	async *watch(
		caller: Caller,
		request: MessageInitShape<typeof PluginServiceWatchRequestSchema>,
		signal: AbortSignal,
	): AsyncGenerator<PluginServiceWatchResponse, void, undefined> {
		const handler = this.#handlers.watch as (input: unknown, call: Call) => AsyncIterable<never>;
		const input = create(PluginServiceWatchRequestSchema, request);
		for await (const frame of handler(input, this.#callOf(caller, signal))) {
			yield create(PluginServiceWatchResponseSchema, frame);
		}
	}

	/** The lifecycle events in the outbox, in the order of their commits. */
	told(): Told[] {
		return this.stored("outbox/event/")
			.sort((a, b) => a.revision - b.revision)
			.map(({ value }) => {
				const record = decodeOutbox(value);
				const event = fromBinary(EventSchema, record.event);
				const { type, source, subject, id } = event;
				const json = event.payload?.body.case === "json" ? event.payload.body.value : "null";
				return { type, topic: record.topic, source, subject, id, data: JSON.parse(json) };
			});
	}

	/** `plugin:weather registered` and so on. */
	toldInShort(): string[] {
		return this.told().map(({ type, subject }) => `${subject} ${type.slice("plugin:".length)}`);
	}

	/** At most 1,000 entries of the store. */
	stored(prefix: string): KvEntry[] {
		return [...this.state.kv.range({ start: prefix, end: prefixEnd(prefix), limit: 1000 }).entries];
	}

	/** Stops the subsystem and leaves its state, as a stop of the hub does. */
	async stop(): Promise<void> {
		await this.registry[Symbol.asyncDispose]();
		await this.answers[Symbol.asyncDispose]();
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.stop();
		await this.state[Symbol.asyncDispose]();
	}

	async #call<I extends DescMessage, O extends DescMessage>(
		name: string,
		caller: Caller,
		input: I,
		request: MessageInitShape<I>,
		output: O,
	): Promise<MessageShape<O>> {
		const handler = this.#handlers[name] as (input: unknown, call: Call) => Promise<MessageInitShape<O>>;
		return create(output, await handler(create(input, request), this.#callOf(caller)));
	}

	#callOf(caller: Caller, signal: AbortSignal = new AbortController().signal): Call {
		const peer = { address: "127.0.0.1:1", encrypted: false };
		return { method: "", caller, peer, requestId: "r", traceparent: undefined, deadline: undefined, signal };
	}
}

export { ANONYMOUS };
