import { create } from "@bufbuild/protobuf";
import { createAsyncIterable } from "@connectrpc/connect/protocol";
import {
	type Address,
	type Message,
	MessagingService,
	RequestManyEnd,
	RequestManyRequestSchema,
	type RequestManyResponse,
	type RequestManySummary,
} from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import type { ClientContext } from "./client-context.ts";
import { toDuration } from "./durations.ts";
import { cancelled, fromEntryError, type HubClientError, RemoteError } from "./errors.ts";
import { endedEarly, readFrames } from "./read-frames.ts";
import { Reply } from "./reply.ts";

/** What one recipient came to: its reply, or why there is none. */
export type ManyReply<T = unknown> =
	| { readonly source: string; readonly reply: Reply<T>; readonly error?: undefined }
	/** Its handler failed, or it could not be asked. */
	| { readonly source: string; readonly reply?: undefined; readonly error: RemoteError | HubClientError };

/** What came of a request to several. */
export interface ManySummary {
	/** All have replied or failed, enough have replied, none came for the stall time, or the time is over. */
	readonly end: "complete" | "maximum" | "stalled" | "timeout";
	readonly answered: number;
	readonly failed: number;
	readonly unanswered: number;
	/** Recipients that led to a plugin which was asked already. */
	readonly merged: number;
}

export interface ManyCall {
	readonly to: readonly Address[];
	readonly topic: string;
	readonly message: Message;
	readonly timeoutMs: number;
	readonly stallMs: number | undefined;
	readonly maxReplies: number;
	readonly signal: AbortSignal | undefined;
}

const ENDS = {
	[RequestManyEnd.UNSPECIFIED]: "complete",
	[RequestManyEnd.COMPLETE]: "complete",
	[RequestManyEnd.MAXIMUM]: "maximum",
	[RequestManyEnd.STALLED]: "stalled",
	[RequestManyEnd.TIMEOUT]: "timeout",
} as const;

/**
 * Yields what the recipients came to, as it comes, and returns the summary. Leaving the loop gives the others up. Throws a
 * `HubClientError` where nobody can be asked or the connection breaks.
 */
export async function* requestMany<T>(
	{ transport, clock }: ClientContext,
	call: ManyCall,
): AsyncGenerator<ManyReply<T>, ManySummary, undefined> {
	const { signal } = call;
	if (signal?.aborted) throw cancelled(signal);
	const request = create(RequestManyRequestSchema, {
		to: [...call.to],
		topic: call.topic,
		message: call.message,
		timeout: toDuration(call.timeoutMs),
		...(call.stallMs !== undefined && { stallTimeout: toDuration(call.stallMs) }),
		maxReplies: call.maxReplies,
	});
	const controller = new AbortController();
	const abandon = () => controller.abort(signal?.reason);
	signal?.addEventListener("abort", abandon, { once: true });
	// Bounded: one entry a recipient.
	const came: ManyReply<T>[] = [];
	let summary: RequestManySummary | undefined;
	let wake = () => {};
	const onFrame = ({ frame }: RequestManyResponse) => {
		if (frame.case === "replies") {
			for (const reply of frame.value.replies) {
				const { source } = reply;
				if (reply.reply?.success) came.push({ source, reply: new Reply<T>(reply) });
				else came.push({ source, error: new RemoteError(reply.reply?.error, source) });
			}
		} else if (frame.case === "failures") {
			for (const { recipient, error } of frame.value.failures) {
				came.push({ source: recipient, error: fromEntryError(error!) });
			}
		} else if (frame.case === "summary") {
			summary = frame.value;
		}
		wake();
	};
	let over: { readonly error?: unknown } | undefined;
	const reading = readFrames({
		transport,
		method: MessagingService.method.requestMany,
		input: createAsyncIterable([request]),
		clock,
		signal: controller.signal,
		onFrame,
	}).then(
		() => {
			over = {};
			wake();
		},
		(error: unknown) => {
			over = { error };
			wake();
		},
	);
	try {
		while (true) {
			for (let next = came.shift(); next !== undefined; next = came.shift()) yield next;
			if (over?.error !== undefined) throw signal?.aborted ? cancelled(signal) : over.error;
			if (over !== undefined) {
				if (summary === undefined) throw endedEarly("RequestMany");
				const { end, answered, failed, unanswered, merged } = summary;
				return { end: ENDS[end], answered, failed, unanswered, merged };
			}
			await new Promise<void>((resolve) => {
				wake = resolve;
			});
		}
	} finally {
		controller.abort();
		signal?.removeEventListener("abort", abandon);
		await reading;
	}
}
