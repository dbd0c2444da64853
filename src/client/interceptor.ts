import { create } from "@bufbuild/protobuf";
import {
	FailureMode,
	type Inspection,
	type InterceptRequest,
	InterceptRequestSchema,
	type Message,
	MessagingService,
	type Verdict,
	VerdictSchema,
} from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import type { ClientContext } from "./client-context.ts";
import { toDuration } from "./durations.ts";
import type { HubClientError } from "./errors.ts";
import { IncomingMessage } from "./incoming-message.ts";
import { keepOpen } from "./keep-open.ts";
import { type Data, toPayload } from "./payload.ts";
import { endedEarly, readFrames } from "./read-frames.ts";
import { WakeUp } from "./wake-up.ts";

export interface InterceptOptions {
	/** Names it among those of the plugin: of the form of a plugin id. */
	readonly name: string;
	/** Patterns of message types, any of which admits; 1-64. */
	readonly types: readonly string[];
	/** Default: any sender. */
	readonly senders?: readonly string[];
	/** Default: any recipient. */
	readonly recipients?: readonly string[];
	/** Lower is asked first, -1,000 to 1,000. Default 0. */
	readonly order?: number;
	/** How long a verdict may take, 1 to 5,000 ms. Default 250. */
	readonly deadline?: number;
	/** What becomes of a message without a verdict in time: it passes, or is refused. */
	readonly onFailure: "open" | "closed";
	/** Messages that the handler looks at at once, 1-10,000. Default 64. */
	readonly maxInFlight?: number;
}

/** What is to become of a message. */
export type InterceptVerdict =
	| { readonly kind: "pass" }
	/** Other data (where `data` is there), attributes set over those that are there; undefined takes one away. */
	| {
			readonly kind: "change";
			readonly data?: Data;
			readonly attributes?: Readonly<Record<string, string | undefined>>;
	  }
	/** A request gets this reply. */
	| { readonly kind: "answer"; readonly data?: Data }
	| { readonly kind: "refuse"; readonly reason: string };

/** What throws gives no verdict: the hub then does at once as `onFailure` says. */
export type InterceptHandler<T = Data> = (
	message: IncomingMessage<T>,
	recipient: string,
) => InterceptVerdict | Promise<InterceptVerdict>;

/**
 * An interceptor at work. Disposing of it withdraws it; where the connection is lost and it fails closed, as soon as there is
 * one again: until then the hub keeps its messages back, also where the client is closed before.
 */
export interface Interception extends Disposable {
	/** Resolves once the hub shows messages to it. Rejects where the hub refuses. */
	readonly ready: Promise<void>;
	/** Resolves with the end: undefined once it was disposed, else the error for which it is not tried again. */
	readonly ended: Promise<HubClientError | undefined>;
}

const MAX_VERDICTS = 1000;

/** Looks at messages of others, and again after a loss, until it is disposed or the hub refuses. */
export function startInterceptor(
	context: ClientContext,
	options: InterceptOptions,
	handler: InterceptHandler,
): Interception {
	const { session, clock, random, transport, logger } = context;
	const stop = new AbortController();
	const signal = AbortSignal.any([session.signal, stop.signal]);
	const ready = Promise.withResolvers<void>();
	ready.promise.catch(() => {});
	let wake: WakeUp | undefined;
	let withdrawn = false;
	let hasPlace = false;

	const run = async (_: unknown, streamSignal: AbortSignal): Promise<void> => {
		const wakeUp = new WakeUp();
		wake = wakeUp;
		const verdicts: Verdict[] = [];
		const judge = async (inspection: Inspection) => {
			try {
				const outcome = await outcomeOf(inspection, handler);
				verdicts.push(create(VerdictSchema, { inspectionId: inspection.inspectionId, outcome }));
			} catch (error) {
				logger.error({ err: error, interceptor: options.name }, "an interceptor's handler threw");
				verdicts.push(create(VerdictSchema, { inspectionId: inspection.inspectionId }));
			}
			wakeUp.notify();
		};
		async function* frames(): AsyncGenerator<InterceptRequest, void, undefined> {
			yield create(InterceptRequestSchema, { frame: { case: "open", value: openOf(options) } });
			while (await wakeUp.wait(() => verdicts.length > 0 || withdrawn)) {
				const batch = verdicts.splice(0, MAX_VERDICTS);
				const frame = { case: "verdicts", value: { verdicts: batch } } as const;
				if (batch.length > 0) yield create(InterceptRequestSchema, { frame });
				if (!withdrawn) continue;
				yield create(InterceptRequestSchema, { frame: { case: "withdraw", value: {} } });
				return;
			}
		}
		try {
			const method = MessagingService.method.intercept;
			await readFrames({
				transport,
				method,
				input: frames(),
				clock,
				signal: streamSignal,
				onFrame({ frame }) {
					if (frame.case === "ready") {
						hasPlace = true;
						ready.resolve();
					} else if (frame.case === "batch") for (const inspection of frame.value.inspections) void judge(inspection);
				},
			});
			if (!withdrawn) throw endedEarly("Intercept");
		} finally {
			wakeUp.end();
		}
	};
	const ended = keepOpen({ session, clock, random, signal, run }).then((error) => {
		ready.reject(error ?? session.failure);
		return withdrawn ? undefined : error;
	});
	return {
		ready: ready.promise,
		ended,
		[Symbol.dispose]() {
			withdrawn = true;
			// The hub keeps the place of one that fails closed: it is taken again, and left.
			const isKept = hasPlace && options.onFailure === "closed";
			if (session.current === undefined && !isKept) stop.abort();
			wake?.notify();
		},
	};
}

async function outcomeOf({ message }: Inspection, handler: InterceptHandler): Promise<Verdict["outcome"]> {
	if (message === undefined) throw new TypeError("an inspection has no message");
	const raw = { message } as IncomingMessage["raw"] & { readonly message: Message };
	const verdict = await handler(new IncomingMessage(raw), message.recipient);
	switch (verdict.kind) {
		case "pass":
			return { case: "pass", value: true };
		case "refuse":
			return create(VerdictSchema, { outcome: { case: "refuse", value: { reason: verdict.reason } } }).outcome;
		case "answer": {
			const value = { success: true, data: toPayload(verdict.data) };
			return create(VerdictSchema, { outcome: { case: "answer", value } }).outcome;
		}
		case "change": {
			const attributes: Record<string, string> = {};
			const removeAttributes: string[] = [];
			for (const [key, value] of Object.entries(verdict.attributes ?? {})) {
				if (value === undefined) removeAttributes.push(key);
				else attributes[key] = value;
			}
			const value = { payload: toPayload(verdict.data), attributes, removeAttributes };
			return create(VerdictSchema, { outcome: { case: "change", value } }).outcome;
		}
	}
}

function openOf({ name, types, senders, recipients, order, deadline, onFailure, maxInFlight }: InterceptOptions) {
	return {
		name,
		types: [...types],
		senders: [...(senders ?? [])],
		recipients: [...(recipients ?? [])],
		order: order ?? 0,
		deadline: deadline === undefined ? undefined : toDuration(deadline),
		failureMode: onFailure === "open" ? FailureMode.OPEN : FailureMode.CLOSED,
		maxInFlight: maxInFlight ?? 0,
	};
}
