import {
	create,
	type DescMessage,
	fromBinary,
	type MessageInitShape,
	type MessageShape,
	toBinary,
} from "@bufbuild/protobuf";
import {
	type AttachRequest,
	AttachRequestSchema,
	AttachResponseSchema,
	type Delivery,
	ReceiveResponseSchema,
	type SendStreamRequest,
	SendStreamRequestSchema,
	SendStreamResponseSchema,
} from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { HubError } from "../../src/hub-error.ts";
import type { Call, Encoded } from "../../src/rpc/call.ts";
import { Mailbox } from "../../src/streams/mailbox.ts";
import type { MessagingRig } from "./messaging-rig.ts";
import { settled } from "./settled.ts";

type Init<D extends DescMessage> = MessageInitShape<D>;

/** A call whose caller can go away. */
export interface HeldCall {
	readonly call: Call;
	abort(error: HubError): void;
}

/** The far end of a stream: frames are read one at a time, in order. */
class Peer<D extends DescMessage> {
	readonly held: HeldCall;
	readonly #frames: AsyncIterator<Encoded>;
	readonly #schema: D;
	#next: Promise<IteratorResult<Encoded>> | undefined;

	constructor(frames: AsyncIterator<Encoded>, schema: D, held: HeldCall) {
		this.#frames = frames;
		this.#schema = schema;
		this.held = held;
	}

	/** The next frame; undefined at the end. Rejects with the stream's failure. */
	async frame(): Promise<MessageShape<D> | undefined> {
		this.#next ??= this.#frames.next();
		const { done, value } = await this.#next;
		this.#next = undefined;
		return done ? undefined : fromBinary(this.#schema, Buffer.concat((value as Encoded).parts));
	}

	/** Asks for the next frame without waiting for it, as a peer that is ready to take one does. */
	async pull(): Promise<void> {
		this.#next ??= this.#frames.next();
		this.#next.catch(() => {});
		await settled();
	}

	/** Whether a frame is there now. */
	async idle(): Promise<boolean> {
		await this.pull();
		const nothing = Symbol();
		return (await Promise.race([this.#next, settled().then(() => nothing)])) === nothing;
	}

	async expect<K extends string>(kind: K): Promise<FrameValue<MessageShape<D>, K>> {
		const message = (await this.frame()) as { frame?: { case?: string; value?: unknown } } | undefined;
		if (message?.frame?.case !== kind) throw new Error(`expected ${kind}, got ${message?.frame?.case ?? "the end"}`);
		return message.frame.value as FrameValue<MessageShape<D>, K>;
	}

	/** The peer is gone. */
	vanish(): void {
		this.held.abort(new HubError("CANCELLED", "the caller went away"));
	}
}

type FrameValue<M, K extends string> = M extends { frame: infer F }
	? Extract<F, { case: K }> extends { value: infer V }
		? V
		: never
	: never;

/** The far end of `Attach`. */
export class AttachPeer extends Peer<typeof AttachResponseSchema> {
	readonly #requests: Mailbox<Uint8Array>;

	constructor(rig: MessagingRig, held: HeldCall) {
		const requests = new Mailbox<Uint8Array>({ maxItems: 100_000 });
		super(rig.open("attach", requests, held.call), AttachResponseSchema, held);
		this.#requests = requests;
	}

	up(frame: Init<typeof AttachRequestSchema>): void {
		this.#requests.push(toBinary(AttachRequestSchema, create(AttachRequestSchema, frame as AttachRequest)));
	}

	upBytes(bytes: Uint8Array): void {
		this.#requests.push(bytes);
	}

	end(): void {
		this.#requests.close();
	}

	async deliveries(): Promise<Delivery[]> {
		return (await this.expect("batch")).deliveries;
	}

	acknowledge(...ids: string[]): void {
		const deliveries = ids.map((deliveryId) => ({
			deliveryId,
			outcome: { case: "acknowledge", value: true } as const,
		}));
		this.up({ frame: { case: "settlement", value: { deliveries } } });
	}

	refuse(deliveryId: string, delayMs = 0): void {
		const delay = { seconds: BigInt(Math.floor(delayMs / 1000)), nanos: (delayMs % 1000) * 1e6 };
		this.up({
			frame: {
				case: "settlement",
				value: { deliveries: [{ deliveryId, outcome: { case: "negative", value: { delay } } }] },
			},
		});
	}

	terminate(deliveryId: string, reason: string): void {
		this.up({
			frame: {
				case: "settlement",
				value: { deliveries: [{ deliveryId, outcome: { case: "terminate", value: { reason } } }] },
			},
		});
	}

	reply(deliveryId: string, json: string): void {
		this.up({
			frame: {
				case: "reply",
				value: { deliveryId, reply: { success: true, data: { body: { case: "json", value: json } } } },
			},
		});
	}
}

/** The far end of `SendStream`. */
export class SendPeer extends Peer<typeof SendStreamResponseSchema> {
	readonly #requests: Mailbox<Uint8Array>;

	constructor(rig: MessagingRig, held: HeldCall) {
		const requests = new Mailbox<Uint8Array>({ maxItems: 100_000 });
		super(rig.open("sendStream", requests, held.call), SendStreamResponseSchema, held);
		this.#requests = requests;
	}

	up(frame: Init<typeof SendStreamRequestSchema>): void {
		this.#requests.push(toBinary(SendStreamRequestSchema, create(SendStreamRequestSchema, frame as SendStreamRequest)));
	}

	upBytes(bytes: Uint8Array): void {
		this.#requests.push(bytes);
	}

	end(): void {
		this.#requests.close();
	}
}

/** The far end of `Receive`. */
export class ReceivePeer extends Peer<typeof ReceiveResponseSchema> {
	constructor(frames: AsyncIterator<Encoded>, held: HeldCall) {
		super(frames, ReceiveResponseSchema, held);
	}
}
