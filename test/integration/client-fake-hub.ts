import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
	Code,
	ConnectError,
	type ConnectRouter,
	createRouterTransport,
	type HandlerContext,
	type Transport,
} from "@connectrpc/connect";
import {
	type EmitStreamRequest,
	type Event,
	EventSchema,
	EventService,
	type SubscribeRequest,
	type SubscribeResponseSchema,
} from "#gen/qirvo/hub/v1/event_service_pb.js";
import { HubService } from "#gen/qirvo/hub/v1/hub_service_pb.js";
import {
	type AttachRequest,
	type AttachResponseSchema,
	type Delivery,
	type DeliveryReply,
	type DeliverySettlement,
	MessagingService,
	type ReceiveResponseSchema,
	type ReplyContent,
	type SendEntry,
	type SendResultSchema,
	type SendStreamRequest,
} from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { PluginService } from "#gen/qirvo/hub/v1/plugin_service_pb.js";
import { type Pattern, parsePattern } from "../../src/subjects/pattern.ts";
import { hubError } from "../harness/hub-error.ts";
import { Signal } from "../harness/signal.ts";
import { untilAborted } from "../harness/until-aborted.ts";

type Frame = MessageInitShape<typeof SubscribeResponseSchema>;
type AttachFrame = MessageInitShape<typeof AttachResponseSchema>;
type Result = MessageInitShape<typeof SendResultSchema>;

/** What a test sets to make the hub misbehave. */
export interface Faults {
	/** Every call fails as if nobody were there. */
	down: boolean;
	/** Batches are stored, and the stream breaks instead of acknowledging. */
	loseAcknowledgements: number;
	/** Breaks each subscription after so many frames of events. */
	breakAfterBatches: number;
	/** The next calls of these methods fail with this reason. */
	readonly refuse: Map<string, { readonly code: Code; readonly reason: string; times: number }>;
}

/** The calls that the client makes, answered from memory: enough of a hub to break in every way that matters. */
export class FakeHub {
	readonly faults: Faults = { down: false, loseAcknowledgements: 0, breakAfterBatches: 0, refuse: new Map() };
	readonly calls: string[] = [];
	readonly log: { event: Event; sequence: bigint }[] = [];
	readonly batchSizes: number[] = [];
	readonly settlements: DeliverySettlement[] = [];
	readonly subscribeRequests: SubscribeRequest[] = [];
	epoch = "e1";
	trimmedTo = 0n;
	openStreams = 0;
	readonly tokens: (string | null)[] = [];
	readonly #instances = new Set<string>();
	readonly #changed = new Signal();
	readonly #sessions = new Map<string, { plugin: string; outgoing: Delivery[]; cancelled: string[] }>();
	readonly #replies = new Map<string, (reply: ReplyContent | undefined) => void>();
	#broken = new AbortController();
	#next = 1;

	transport(): Transport {
		return createRouterTransport(this.routes);
	}

	/** Ends every open stream as a lost connection does. */
	disconnect(): void {
		this.#broken.abort(new ConnectError("connection lost", Code.Unavailable));
		this.#broken = new AbortController();
	}

	forgetInstances(): void {
		this.#instances.clear();
	}

	/** Puts an event in the log as another plugin would. */
	publish(type: string, data: unknown = {}): void {
		this.#store(
			create(EventSchema, {
				id: `hub-${this.#next++}`,
				type,
				source: "other",
				payload: { body: { case: "json", value: JSON.stringify(data) } },
			}),
		);
	}

	readonly routes = (router: ConnectRouter): void => {
		router.service(HubService, {
			getHubInfo: (_, context) => {
				this.#enter("GetHubInfo", context);
				return { version: "0.0.0", limits: { idWindow: { seconds: 120n } } };
			},
		});
		router.service(PluginService, {
			register: (request, context) => {
				this.#enter("Register", context);
				const instanceId = this.#instances.has(request.instanceId) ? request.instanceId : `i${this.#next++}`;
				this.#instances.add(instanceId);
				const { id } = JSON.parse(request.manifestJson);
				const token = context.requestHeader.has("authorization") ? "" : id;
				return { instanceId, lease: { seconds: 30n }, plugin: { id }, token };
			},
			heartbeat: ({ instanceId }, context) => {
				this.#enter("Heartbeat", context);
				if (!this.#instances.has(instanceId)) throw hubError("INSTANCE_NOT_FOUND", Code.NotFound);
				return { lease: { seconds: 30n } };
			},
		});
		router.service(EventService, {
			emit: ({ event }, context) => {
				this.#enter("Emit", context);
				const { sequence, duplicate } = this.#store(event!);
				if (this.faults.loseAcknowledgements-- > 0) throw new ConnectError("lost", Code.Unavailable);
				return { id: event!.id, position: { epoch: this.epoch, sequence }, duplicate };
			},
			emitStream: (requests, context) => this.#emitStream(requests, context),
			subscribe: (request, context) => this.#subscribe(request, context),
			listEvents: ({ pageToken, pageSize }, context) => {
				this.#enter("ListEvents", context);
				const from = Number(pageToken || "0");
				const events = this.log.slice(from, from + pageSize).map(({ event }) => event);
				const end = from + events.length;
				return { events, epoch: this.epoch, nextPageToken: end < this.log.length ? String(end) : "" };
			},
		});
		router.service(MessagingService, {
			send: async ({ to, message }, context) => {
				this.#enter("Send", context);
				const result = await this.#route({ to, message } as SendEntry, pluginOf(context), context.signal);
				if (result.outcome?.case === "accepted") return result.outcome.value;
				throw hubError("RECIPIENT_UNAVAILABLE", Code.Unavailable);
			},
			request: async ({ to, message, timeout }, context) => {
				this.#enter("Request", context);
				const entry = { to, message, requestTimeout: timeout } as SendEntry;
				const broken = this.#broken.signal;
				const result = await this.#route(entry, pluginOf(context), AbortSignal.any([context.signal, broken]));
				if (broken.aborted) throw broken.reason;
				if (result.outcome?.case === "reply") return result.outcome.value;
				throw hubError("RECIPIENT_UNAVAILABLE", Code.Unavailable);
			},
			sendStream: (requests, context) => this.#sendStream(requests, context),
			attach: (requests, context) => this.#attach(requests, context) as AsyncGenerator<AttachFrame>,
			receive: (_, context) => this.#deliver("Receive", context),
			acknowledge: ({ sessionId, deliveries }, context) => {
				this.#enter("Acknowledge", context);
				if (!this.#sessions.has(sessionId)) throw hubError("SESSION_NOT_FOUND", Code.NotFound);
				this.settlements.push(...deliveries);
				return {};
			},
			reply: ({ reply }, context) => {
				this.#enter("Reply", context);
				this.#answer(reply!);
				return {};
			},
		});
	};

	#enter(method: string, context: HandlerContext): void {
		this.calls.push(method);
		this.tokens.push(context.requestHeader.get("authorization"));
		if (this.faults.down) throw new ConnectError("connection refused", Code.Unavailable);
		const refusal = this.faults.refuse.get(method);
		if (!refusal || refusal.times-- <= 0) return;
		throw hubError(refusal.reason, refusal.code);
	}

	#store(event: Event): { sequence: bigint; duplicate: boolean } {
		const known = this.log.find((stored) => stored.event.id === event.id);
		if (known) return { sequence: known.sequence, duplicate: true };
		const sequence = BigInt(this.log.length + 1);
		event.sequence = sequence;
		event.source ||= "me";
		this.log.push({ event, sequence });
		this.#changed.raise();
		return { sequence, duplicate: false };
	}

	async *#emitStream(requests: AsyncIterable<EmitStreamRequest>, context: HandlerContext) {
		this.#enter("EmitStream", context);
		yield* this.#whileOpen(context, async function* (this: FakeHub, signal: AbortSignal) {
			yield { frame: { case: "ready" as const, value: { id: "emit" } } };
			for await (const { batchId, events } of untilAborted(requests, signal)) {
				this.batchSizes.push(events.length);
				const exceptions = [];
				let firstSequence = 0n;
				for (const [index, event] of events.entries()) {
					if (event.type === "refused") {
						const value = { code: Code.PermissionDenied, reason: "INSUFFICIENT_PERMISSIONS", message: "no" };
						exceptions.push({ index, outcome: { case: "error" as const, value } });
						continue;
					}
					const { sequence, duplicate } = this.#store(event);
					if (duplicate) exceptions.push({ index, outcome: { case: "duplicateOf" as const, value: sequence } });
					else firstSequence ||= sequence;
				}
				if (this.faults.loseAcknowledgements-- > 0) throw new ConnectError("lost", Code.Unavailable);
				const stored = events.length - exceptions.length;
				const value = { batchId, epoch: this.epoch, firstSequence, stored, exceptions };
				yield { frame: { case: "acknowledgement" as const, value } };
			}
		});
	}

	async *#subscribe(request: SubscribeRequest, context: HandlerContext): AsyncGenerator<Frame> {
		this.#enter("Subscribe", context);
		this.subscribeRequests.push(request);
		const patterns = request.patterns.map((text) => parsePattern(text, "patterns"));
		const from = request.start?.from;
		let next = this.log.length;
		if (from?.case === "everything") next = Number(this.trimmedTo);
		if (from?.case === "after") {
			if (from.value.epoch !== this.epoch || from.value.sequence < this.trimmedTo) {
				throw hubError("POSITION_TRIMMED", Code.OutOfRange, { oldest_sequence: String(this.trimmedTo + 1n) });
			}
			next = Number(from.value.sequence);
		}
		const attached = this.log.length;
		const id = `s${this.#next++}`;
		let batches = 0;
		let sent = 0;
		const at = () => ({ epoch: this.epoch, sequence: BigInt(next) });
		yield* this.#whileOpen<Frame>(context, async function* (this: FakeHub, signal: AbortSignal): AsyncGenerator<Frame> {
			yield { position: at(), frame: { case: "ready", value: { id, heartbeatInterval: { seconds: 15n } } } };
			let caughtUp = false;
			while (!signal.aborted) {
				const end = caughtUp ? this.log.length : attached;
				const events = this.log.slice(next, Math.min(end, next + 3)).filter(({ event }) => matches(patterns, event));
				const room = request.limit === 0 ? events.length : request.limit - sent;
				next = Math.min(end, next + 3);
				if (events.length > 0) {
					const marked = events
						.slice(0, room)
						.map(({ event }) => ({ ...event, isReplay: Number(event.sequence) <= attached }));
					sent += marked.length;
					yield { position: at(), frame: { case: "batch", value: { events: marked, subscriptionId: id } } };
					if (request.limit > 0 && sent >= request.limit) return;
					if (this.faults.breakAfterBatches > 0 && ++batches >= this.faults.breakAfterBatches) {
						throw new ConnectError("lost", Code.Unavailable);
					}
				}
				if (next < end) continue;
				if (!caughtUp) {
					caughtUp = true;
					yield { position: at(), frame: { case: "caughtUp", value: {} } };
					if (request.live === false) return;
				} else if (next >= this.log.length) {
					await this.#changed.wait(signal);
				}
			}
		});
	}

	async *#sendStream(requests: AsyncIterable<SendStreamRequest>, context: HandlerContext) {
		this.#enter("SendStream", context);
		const source = pluginOf(context);
		const results: Result[] = [];
		const waiting = new Map<bigint, AbortController>();
		yield* this.#whileOpen(context, async function* (this: FakeHub, signal: AbortSignal) {
			yield { frame: { case: "ready" as const, value: { id: "send" } } };
			void (async () => {
				for await (const { frame } of untilAborted(requests, signal)) {
					if (frame.case === "cancel") waiting.get(frame.value.entryId)?.abort();
					if (frame.case !== "batch") continue;
					this.batchSizes.push(frame.value.entries.length);
					for (const entry of frame.value.entries) {
						const given = new AbortController();
						waiting.set(entry.entryId, given);
						void this.#route(entry, source, AbortSignal.any([given.signal, signal])).then((result) => {
							results.push(result);
							this.#changed.raise();
						});
					}
				}
			})().catch(() => {});
			while (!signal.aborted) {
				if (results.length > 0) yield { frame: { case: "results" as const, value: { results: results.splice(0) } } };
				else await this.#changed.wait(signal);
			}
		});
	}

	async *#attach(requests: AsyncIterable<AttachRequest>, context: HandlerContext) {
		const session = `s${this.#next++}`;
		const ended = new AbortController();
		void (async () => {
			for await (const { frame } of untilAborted(requests, AbortSignal.any([ended.signal, this.#broken.signal]))) {
				if (frame.case === "settlement") this.settlements.push(...frame.value.deliveries);
				if (frame.case === "reply") this.#answer(frame.value);
				this.#changed.raise();
			}
		})().catch(() => {});
		try {
			yield* this.#deliver("Attach", context, session);
		} finally {
			ended.abort();
		}
	}

	async *#deliver(method: string, context: HandlerContext, id = `s${this.#next++}`) {
		this.#enter(method, context);
		const session = { plugin: pluginOf(context), outgoing: [] as Delivery[], cancelled: [] as string[] };
		this.#sessions.set(id, session);
		try {
			yield* this.#whileOpen<MessageInitShape<typeof ReceiveResponseSchema>>(
				context,
				async function* (this: FakeHub, signal: AbortSignal) {
					yield { frame: { case: "ready", value: { id } } };
					while (!signal.aborted) {
						for (const deliveryId of session.cancelled.splice(0)) {
							yield { frame: { case: "cancelled", value: { deliveryId, reason: "CANCELLED" } } };
						}
						const deliveries = session.outgoing.splice(0);
						if (deliveries.length > 0) yield { frame: { case: "batch", value: { deliveries } } };
						else if (session.cancelled.length === 0) await this.#changed.wait(signal);
					}
				},
			);
		} finally {
			this.#sessions.delete(id);
		}
	}

	async #route(entry: SendEntry, source: string, signal: AbortSignal): Promise<Result> {
		const { entryId } = entry;
		const recipient = String(entry.to?.target.value);
		const session = [...this.#sessions.values()].find(({ plugin }) => plugin === recipient);
		if (session === undefined) {
			const value = { code: Code.Unavailable, reason: "RECIPIENT_UNAVAILABLE", message: "nobody is attached" };
			return { entryId, outcome: { case: "error", value } };
		}
		const deliveryId = `d${this.#next++}`;
		const requiresResponse = entry.requestTimeout !== undefined;
		const message = { ...entry.message!, source, recipient, requiresResponse, attempt: 1 };
		session.outgoing.push({ $typeName: "qirvo.hub.v1.Delivery", deliveryId, message });
		this.#changed.raise();
		const { id } = message;
		if (!requiresResponse) return { entryId, outcome: { case: "accepted", value: { id, disposition: 1 } } };
		const reply = await new Promise<ReplyContent | undefined>((resolve) => {
			this.#replies.set(deliveryId, resolve);
			signal.addEventListener("abort", () => resolve(undefined), { once: true });
		});
		this.#replies.delete(deliveryId);
		if (reply === undefined) {
			session.cancelled.push(deliveryId);
			this.#changed.raise();
			return { entryId, outcome: { case: "error", value: { code: Code.Canceled, reason: "CANCELLED" } } };
		}
		return { entryId, outcome: { case: "reply", value: { id, reply, source: recipient } } };
	}

	#answer({ deliveryId, reply }: DeliveryReply): void {
		this.#replies.get(deliveryId)?.(reply);
	}

	/** Runs a stream until its caller leaves or the connection is broken. */
	async *#whileOpen<F>(
		context: HandlerContext,
		run: (this: FakeHub, signal: AbortSignal) => AsyncGenerator<F>,
	): AsyncGenerator<F> {
		const broken = this.#broken.signal;
		const signal = AbortSignal.any([context.signal, broken]);
		this.openStreams++;
		// A generator that is blocked in `yield` may never see its end, so the signal counts.
		const leave = () => {
			if (!left) this.openStreams--;
			left = true;
		};
		let left = false;
		signal.addEventListener("abort", leave, { once: true });
		try {
			yield* run.call(this, signal);
			if (broken.aborted) throw broken.reason;
		} finally {
			leave();
		}
	}
}

function pluginOf(context: HandlerContext): string {
	return context.requestHeader.get("authorization")?.replace("Bearer ", "") ?? "";
}

function matches(patterns: readonly Pattern[], event: Event): boolean {
	return patterns.some((pattern) => pattern.matches(event.type.replaceAll(":", ".")));
}
