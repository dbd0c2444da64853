import {
	create,
	type DescMessage,
	fromBinary,
	type MessageInitShape,
	type MessageShape,
	toBinary,
} from "@bufbuild/protobuf";
import {
	AcknowledgeRequestSchema,
	type AttachOpenSchema,
	MessagingService,
	ReplyRequestSchema,
	RequestRequestSchema,
	type RequestResponse,
	RequestResponseSchema,
	SendRequestSchema,
	type SendResponse,
	SendResponseSchema,
} from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { DeadLetters } from "../../src/dead-letters/dead-letters.ts";
import { HubError } from "../../src/hub-error.ts";
import { FirstAnswers } from "../../src/idempotency/first-answers.ts";
import type { RecipientDirectory } from "../../src/messaging/address.ts";
import { FanOut } from "../../src/messaging/fan-out.ts";
import { Interceptors } from "../../src/messaging/interceptors.ts";
import { MiddlewareChain } from "../../src/messaging/middleware-chain.ts";
import { Router, type RouterOptions } from "../../src/messaging/router.ts";
import { Routes } from "../../src/messaging/routes.ts";
import { TopicMembers } from "../../src/messaging/topic-members.ts";
import { type Call, Encoded, Raw } from "../../src/rpc/call.ts";
import { createMessagingService } from "../../src/rpc/messaging-service.ts";
import type { Action } from "../../src/security/actions.ts";
import type { Caller } from "../../src/security/caller.ts";
import { type ContentFacts, checkContent } from "../../src/security/content-rule.ts";
import type { OpenStream } from "../../src/security/open-streams.ts";
import { Reach } from "../../src/security/reach.ts";
import { CommitQueue } from "../../src/state/commit-queue.ts";
import type { KvStore } from "../../src/state/kv-store.ts";
import { VolatileKvStore } from "../../src/state/volatile-kv-store.ts";
import { FakeClock, SequentialIds } from "./fake-clock.ts";
import { AttachPeer, type HeldCall, ReceivePeer, SendPeer } from "./messaging-peers.ts";

type Init<D extends DescMessage> = MessageInitShape<D>;

/** Rigs so far: those that share a store must not share the ids of commits and letters. */
let rigs = 0;

/** MessagingService over a router, a held clock and a guard whose grants the test sets; calls are made in process. */
export class MessagingRig implements Disposable {
	readonly clock: FakeClock;
	/** Outlives the rig where a test gives it one. */
	readonly kv: KvStore;
	readonly letters: DeadLetters;
	readonly plugins = new Map<string, "present" | "disabled">();
	/** `sender>recipient` pairs that the guard refuses. */
	readonly denied = new Set<string>();
	readonly checked: Action[] = [];
	readonly leases = new Set<string>();
	readonly openStreams = new Set<OpenStream>();
	readonly router: Router;
	readonly topics: TopicMembers;
	readonly #handlers: Readonly<Record<string, unknown>>;
	readonly #leaseListeners = new Set<(pluginId: string, instanceId: string) => void>();
	readonly #removalListeners = new Set<(pluginId: string) => void>();

	constructor(options: Partial<Omit<RouterOptions, "clock">> & { readonly clock?: FakeClock } = {}) {
		this.clock = options.clock ?? new FakeClock();
		const directory: RecipientDirectory = {
			lookup: (id) => this.plugins.get(id) ?? "unknown",
			onRemoved: (listener) => {
				this.#removalListeners.add(listener);
				return { [Symbol.dispose]: () => void this.#removalListeners.delete(listener) };
			},
		};
		const { clock } = this;
		for (const id of ["alice", "bob", "carol"]) this.plugins.set(id, "present");
		this.kv = options.kv ?? new VolatileKvStore(clock);
		const queue = new CommitQueue({ kv: this.kv, clock, ids: new SequentialIds(`commit-${++rigs}-`) });
		this.letters = new DeadLetters({ kv: this.kv, queue, clock, ids: new SequentialIds(`letter-${rigs}-`) });
		this.letters.load();
		this.router = new Router({
			clock,
			ids: new SequentialIds(),
			kv: this.kv,
			queue,
			letters: this.letters,
			directory,
			leases: {
				isLive: (pluginId, instanceId) => this.leases.has(`${pluginId}/${instanceId}`),
				onEnd: (listener) => {
					this.#leaseListeners.add(listener);
					return { [Symbol.dispose]: () => void this.#leaseListeners.delete(listener) };
				},
			},
			...options,
		});
		this.router.start();
		const guard = {
			check: (caller: Caller, action: Action, content?: ContentFacts) => this.#check(caller, action, content),
			recheck: () => {},
			refusal: () => undefined,
			spoofed: () => {},
			reach: () => new Reach({ refusal: () => undefined, record: () => {} }),
			mayReceiveTopic: () => true,
		};
		const streams = {
			open: (_caller: Caller, stream: OpenStream): Disposable => {
				this.openStreams.add(stream);
				return { [Symbol.dispose]: () => void this.openStreams.delete(stream) };
			},
			watch: (_caller: Caller, revoke: OpenStream["revoke"]) => streams.open(_caller, { recheck: () => {}, revoke }),
		};
		const answers = new FirstAnswers({ kv: this.kv, clock, ids: new SequentialIds(`answer-${rigs}-`) });
		const routes = new Routes({ kv: this.kv, answers, clock, ids: new SequentialIds("by-chance-") });
		const audit = {
			change: () => {
				throw new Error("the rig changes no routes");
			},
			decided: () => Promise.resolve(),
			record: () => {},
		};
		const middleware = new MiddlewareChain({ clock, ids: new SequentialIds("named-"), checkContent });
		const { router } = this;
		const ids = new SequentialIds("many-");
		this.topics = new TopicMembers({ kv: this.kv, queue, clock, directory });
		this.topics.start();
		this.#handlers = createMessagingService({
			clock,
			router,
			routes,
			middleware,
			interceptors: new Interceptors({ chain: middleware, clock }),
			guard,
			streams,
			audit,
			topics: this.topics,
			fanOut: new FanOut({ router, routes, middleware, clock, ids }),
			durable: { redrive: () => Promise.reject(new Error("the rig has no events")) },
			audience: { select: () => this.plugins.keys() },
		}).handlers;
	}

	/** The plugin is no longer registered. */
	unregister(pluginId: string): void {
		this.plugins.delete(pluginId);
		for (const listener of this.#removalListeners) listener(pluginId);
	}

	#check(caller: Caller, action: Action, content?: ContentFacts): void {
		this.checked.push(action);
		if (caller.kind !== "plugin") throw new HubError("CALLER_NOT_ALLOWED", "plugins only");
		if (action.kind === "send" && this.denied.has(`${caller.id}>${action.recipient}`)) {
			throw new HubError("NO_SEND_PERMISSION", "denied by the test");
		}
		const problem = content && checkContent(content);
		if (problem) throw problem;
	}

	endLease(pluginId: string, instanceId: string): void {
		this.leases.delete(`${pluginId}/${instanceId}`);
		for (const listener of this.#leaseListeners) listener(pluginId, instanceId);
	}

	call(pluginId: string, deadlineMs?: number): HeldCall {
		const controller = new AbortController();
		const call: Call = {
			method: "/test",
			caller: { kind: "plugin", id: pluginId, credentialId: "c", expiresAt: undefined },
			peer: { address: "127.0.0.1:1", encrypted: false },
			requestId: `request-${pluginId}`,
			traceparent: undefined,
			deadline: deadlineMs === undefined ? undefined : this.clock.monotonic() + deadlineMs,
			signal: controller.signal,
		};
		return { call, abort: (error) => controller.abort(error) };
	}

	/** Any handler, with a request and a response in wire form. */
	async raw(method: string, bytes: Uint8Array, call: Call): Promise<Uint8Array> {
		const handler = this.#handlers[method];
		if (!(handler instanceof Raw)) throw new Error(`${method} takes messages`);
		const response = await handler.handler(bytes, call);
		if (response instanceof Encoded) return Buffer.concat(response.parts);
		const { output } = MessagingService.method[method as "acknowledge"];
		return toBinary(output, create(output, response));
	}

	async #unary<I extends DescMessage, O extends DescMessage>(
		method: string,
		[input, output]: [I, O],
		request: Init<I>,
		call: Call,
	): Promise<MessageShape<O>> {
		return fromBinary(output, await this.raw(method, toBinary(input, create(input, request)), call));
	}

	send(from: string, request: Init<typeof SendRequestSchema>): Promise<SendResponse> {
		return this.#unary("send", [SendRequestSchema, SendResponseSchema], request, this.call(from).call);
	}

	request(from: HeldCall | string, request: Init<typeof RequestRequestSchema>): Promise<RequestResponse> {
		const { call } = typeof from === "string" ? this.call(from) : from;
		return this.#unary("request", [RequestRequestSchema, RequestResponseSchema], request, call);
	}

	acknowledge(from: string, request: Init<typeof AcknowledgeRequestSchema>) {
		const { output } = MessagingService.method.acknowledge;
		return this.#unary("acknowledge", [AcknowledgeRequestSchema, output], request, this.call(from).call);
	}

	reply(from: string, request: Init<typeof ReplyRequestSchema>) {
		const { output } = MessagingService.method.reply;
		return this.#unary("reply", [ReplyRequestSchema, output], request, this.call(from).call);
	}

	/** A handler that takes messages, as the plugin or (with an empty id) as an operator calls it. */
	async deadLetters<M extends "listDeadLetters" | "getDeadLetter" | "redriveDeadLetters" | "deleteDeadLetters">(
		method: M,
		from: string,
		request: Init<(typeof MessagingService.method)[M]["input"]>,
	): Promise<MessageShape<(typeof MessagingService.method)[M]["output"]>> {
		const { input, output } = MessagingService.method[method] as { input: DescMessage; output: DescMessage };
		const handler = this.#handlers[method] as (request: unknown, call: Call) => Promise<never>;
		const { call } = this.call(from);
		const caller: Caller =
			from === "" ? { kind: "operator", id: "root", credentialId: "c", expiresAt: undefined } : call.caller;
		return create(output, await handler(create(input, request as never), { ...call, caller })) as never;
	}

	/** An open `Attach` stream past its `ready`. */
	async attach(pluginId: string, open: Init<typeof AttachOpenSchema> = {}): Promise<AttachPeer> {
		const peer = this.attachUnopened(pluginId);
		peer.up({ frame: { case: "open", value: open } });
		await peer.expect("ready");
		return peer;
	}

	attachUnopened(pluginId: string): AttachPeer {
		return new AttachPeer(this, this.call(pluginId));
	}

	/** An open `SendStream` past its `ready`. */
	async sendStream(pluginId: string): Promise<SendPeer> {
		const peer = new SendPeer(this, this.call(pluginId));
		await peer.expect("ready");
		return peer;
	}

	async receive(pluginId: string, open: { instanceId?: string; maxInFlight?: number } = {}): Promise<ReceivePeer> {
		const held = this.call(pluginId);
		const handler = this.#handlers.receive as (request: object, call: Call) => AsyncIterable<Encoded>;
		const frames = handler({ instanceId: "", maxInFlight: 0, ...open }, held.call)[Symbol.asyncIterator]();
		return new ReceivePeer(frames, held);
	}

	/** The response iterator of a bidi call whose requests come from `requests`. */
	open(method: "attach" | "sendStream", requests: AsyncIterable<Uint8Array>, call: Call): AsyncIterator<Encoded> {
		const handler = this.#handlers[method] as Raw<
			(requests: AsyncIterable<Uint8Array>, call: Call) => AsyncIterable<Encoded>
		>;
		return handler.handler(requests, call)[Symbol.asyncIterator]();
	}

	/** What is held once everything is over: nothing. */
	get held() {
		return { ...this.router.held, streams: this.openStreams.size };
	}

	[Symbol.dispose](): void {
		this.router[Symbol.dispose]();
	}
}
