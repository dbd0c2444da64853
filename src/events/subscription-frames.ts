import { create, toBinary } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { type SubscribeResponse, SubscribeResponseSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { varintSize, writeVarint } from "../wire/varint.ts";
import { lengthDelimited } from "../wire/wire-writer.ts";

/** One frame in protobuf wire form; its parts follow each other. */
export type FrameParts = readonly Uint8Array[];

/** The frames of one subscription. */
export class SubscriptionFrames {
	readonly #epoch: string;
	readonly #epochField: Uint8Array;
	/** `EventBatch.subscription_id`. */
	readonly #id: Uint8Array;
	readonly #subscriptionId: string;
	readonly #resumeToken: string;

	constructor(subscriptionId: string, epoch: string, resumeToken: string) {
		this.#epoch = epoch;
		this.#epochField = lengthDelimited(1, Buffer.from(epoch));
		this.#subscriptionId = subscriptionId;
		this.#resumeToken = resumeToken;
		this.#id = lengthDelimited(2, Buffer.from(subscriptionId));
	}

	ready(sequence: number, heartbeatMs: number): FrameParts {
		const heartbeatInterval = durationFromMs(heartbeatMs);
		const ready = { id: this.#subscriptionId, heartbeatInterval, resumeToken: this.#resumeToken };
		return this.#plain(sequence, { case: "ready", value: ready as never });
	}

	caughtUp(sequence: number): FrameParts {
		return this.#plain(sequence, { case: "caughtUp", value: {} as never });
	}

	heartbeat(sequence: number): FrameParts {
		return this.#plain(sequence, { case: "heartbeat", value: {} as never });
	}

	revoked(sequence: number, reason: string, message: string): FrameParts {
		return this.#plain(sequence, { case: "revoked", value: { reason, message } as never });
	}

	draining(sequence: number): FrameParts {
		return this.#plain(sequence, { case: "draining", value: {} as never });
	}

	/** `entries` are runs of encoded `EventBatch.events` entries of `bytes` bytes in all. They are not copied. */
	batch(sequence: number, entries: readonly Uint8Array[], bytes: number): FrameParts {
		const epoch = this.#epochField.byteLength;
		const position = epoch + (sequence === 0 ? 0 : 1 + varintSize(sequence));
		const batch = bytes + this.#id.byteLength;
		const head = Buffer.allocUnsafe(2 + position + 1 + varintSize(batch));
		let at = 0;
		head[at++] = 0x0a;
		head[at++] = position;
		head.set(this.#epochField, at);
		at += epoch;
		if (sequence !== 0) {
			head[at++] = 0x10;
			at = writeVarint(head, at, sequence);
		}
		head[at++] = 0x1a;
		writeVarint(head, at, batch);
		return [head, ...entries, this.#id];
	}

	#plain(sequence: number, frame: SubscribeResponse["frame"]): FrameParts {
		const position = { epoch: this.#epoch, sequence: BigInt(sequence) };
		return [toBinary(SubscribeResponseSchema, create(SubscribeResponseSchema, { position, frame } as never))];
	}
}
