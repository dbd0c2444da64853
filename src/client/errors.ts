import type { MessageShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "#gen/google/rpc/error_details_pb.js";
import { type FailedCheck as FailedCheckMessage, FailedChecksSchema } from "#gen/qirvo/hub/v1/entries_pb.js";
import type { EntryError, ErrorReason } from "#gen/qirvo/hub/v1/errors_pb.js";
import type { ReplyError } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { durationMs } from "./durations.ts";
import { type FailedCheck, failedCheck } from "./expected.ts";
import { type Data, dataOf } from "./payload.ts";

/** The reasons that a hub gives, as `errors.proto` lists them. */
export type HubReason = Exclude<keyof typeof ErrorReason, "UNSPECIFIED">;

/**
 * Why something failed, for a program to branch on: a reason of the hub, or one of the client's own.
 *
 * - `CONNECTION_LOST`: the hub cannot be reached, or the connection broke before the answer.
 * - `OUTCOME_UNKNOWN`: it was sent, the connection broke, and sending it again could do it twice.
 * - `BUFFER_FULL`: more waits to be sent than the client keeps.
 * - `CLIENT_CLOSED`: the client was disposed of.
 * - `UNKNOWN`: a peer other than a hub answered, such as a proxy.
 */
export type Reason = HubReason | "CONNECTION_LOST" | "OUTCOME_UNKNOWN" | "BUFFER_FULL" | "CLIENT_CLOSED" | "UNKNOWN";

export interface HubClientErrorOptions {
	readonly code?: Code;
	readonly metadata?: Readonly<Record<string, string>>;
	readonly retryAfterMs?: number;
	readonly violations?: readonly { readonly field: string; readonly description: string }[];
	readonly failedChecks?: readonly FailedCheck[];
	readonly cause?: unknown;
}

/** A failure that is not a handler's own: the hub refused, or could not be reached. */
export class HubClientError extends Error {
	override readonly name: string = "HubClientError";
	readonly reason: Reason;
	/** The canonical status code. */
	readonly code: Code;
	/** The values that matter, as the hub names them. */
	readonly metadata: Readonly<Record<string, string>>;
	/** Milliseconds after which a repeat may succeed, where the hub says so. */
	readonly retryAfterMs: number | undefined;
	/** Which fields of a request were refused, and why. */
	readonly violations: readonly { readonly field: string; readonly description: string }[];
	/** With REVISION_MISMATCH of a store: every expectation that did not hold. */
	readonly failedChecks: readonly FailedCheck[];

	constructor(reason: Reason, message: string, options: HubClientErrorOptions = {}) {
		super(message, options.cause === undefined ? undefined : { cause: options.cause });
		this.reason = reason;
		this.code = options.code ?? Code.Unavailable;
		this.metadata = options.metadata ?? {};
		this.retryAfterMs = options.retryAfterMs;
		this.violations = options.violations ?? [];
		this.failedChecks = options.failedChecks ?? [];
	}

	/** Whether it is a matter of the connection or of the moment, so that the same call may succeed later. */
	get isTransient(): boolean {
		return TRANSIENT.has(this.reason);
	}
}

/** The plugin that was asked answered that it failed. */
export class RemoteError extends Error {
	override readonly name = "RemoteError";
	/** The handler's name for what went wrong. */
	readonly type: string;
	/** Whether the same request will fail again. */
	readonly nonRetryable: boolean;
	/** When to try again, in milliseconds. */
	readonly retryAfterMs: number | undefined;
	/** More about it. */
	readonly details: Data;
	/** The plugin that answered. */
	readonly source: string;

	constructor(error: ReplyError | undefined, source: string) {
		super(error?.message || "the handler failed");
		this.type = error?.type ?? "";
		this.nonRetryable = error?.nonRetryable ?? false;
		this.retryAfterMs = error?.retryAfter === undefined ? undefined : durationMs(error.retryAfter);
		this.details = dataOf(error?.details);
		this.source = source;
	}
}

export interface HandlerErrorOptions {
	/** The same request will fail again. Default false. */
	readonly nonRetryable?: boolean;
	/** When to try again, in milliseconds. */
	readonly retryAfterMs?: number;
	/** More about it: JSON or bytes. */
	readonly details?: Data;
	readonly cause?: unknown;
}

/** What a handler throws so that the requester learns more than a message: it arrives as a `RemoteError`. */
export class HandlerError extends Error {
	override readonly name = "HandlerError";
	readonly type: string;
	readonly options: HandlerErrorOptions;

	constructor(type: string, message: string, options: HandlerErrorOptions = {}) {
		super(message, options.cause === undefined ? undefined : { cause: options.cause });
		this.type = type;
		this.options = options;
	}
}

const TRANSIENT: ReadonlySet<Reason> = new Set<Reason>([
	"CONNECTION_LOST",
	"HUB_DRAINING",
	"STORAGE_UNAVAILABLE",
	"RECIPIENT_UNAVAILABLE",
	"SLOW_CONSUMER",
	"SUBSCRIPTION_RESET",
	"RATE_LIMIT_EXCEEDED",
	"LIMIT_EXCEEDED",
	"MAILBOX_FULL",
	"DEADLINE_EXCEEDED",
	"INTERNAL",
]);

/** What an error that carries no `ErrorInfo` most likely is. Such an error is not of a hub's own making. */
const REASON_OF_CODE: ReadonlyMap<Code, Reason> = new Map<Code, Reason>([
	[Code.Unavailable, "CONNECTION_LOST"],
	[Code.Aborted, "CONNECTION_LOST"],
	[Code.Internal, "CONNECTION_LOST"],
	[Code.Unknown, "CONNECTION_LOST"],
	[Code.DataLoss, "CONNECTION_LOST"],
	[Code.ResourceExhausted, "CONNECTION_LOST"],
	[Code.Canceled, "CANCELLED"],
	[Code.DeadlineExceeded, "DEADLINE_EXCEEDED"],
	[Code.Unauthenticated, "CREDENTIAL_INVALID"],
	[Code.PermissionDenied, "INSUFFICIENT_PERMISSIONS"],
	[Code.InvalidArgument, "MALFORMED_REQUEST"],
	[Code.Unimplemented, "METHOD_UNKNOWN"],
]);

/**
 * Any failure of a call as the one error type of the client. With the signal of the call, a cancellation that did not come
 * from it is told apart: then the peer or the connection ended the call.
 */
export function toClientError(error: unknown, signal?: AbortSignal): HubClientError {
	if (error instanceof HubClientError) return error;
	const failure = ConnectError.from(error);
	const info = failure.findDetails(ErrorInfoSchema)[0];
	if (failure.code === Code.Canceled && info === undefined && signal?.aborted === false) {
		return new HubClientError("CONNECTION_LOST", failure.rawMessage, { cause: error });
	}
	const retry = failure.findDetails(RetryInfoSchema)[0]?.retryDelay;
	const request = failure.findDetails(BadRequestSchema)[0];
	return new HubClientError(
		(info?.reason as HubReason | undefined) ?? REASON_OF_CODE.get(failure.code) ?? "UNKNOWN",
		failure.rawMessage || failure.message,
		{
			code: failure.code,
			metadata: info?.metadata,
			retryAfterMs: retry === undefined ? undefined : durationMs(retry),
			violations: request?.fieldViolations.map(violation),
			failedChecks: failure.findDetails(FailedChecksSchema)[0]?.checks.map(failedCheck),
			cause: error,
		},
	);
}

/** The failure of one entry of a batch. */
export function fromEntryError(error: EntryError, checks: readonly FailedCheckMessage[] = []): HubClientError {
	return new HubClientError((error.reason as HubReason) || "UNKNOWN", error.message, {
		code: error.code as Code,
		metadata: error.metadata,
		failedChecks: checks.map(failedCheck),
	});
}

/** What every wait fails with once the client is disposed of. */
export function clientClosed(): HubClientError {
	return new HubClientError("CLIENT_CLOSED", "the client is closed", { code: Code.Canceled });
}

/** What a wait that its caller gave up fails with. */
export function cancelled(signal: AbortSignal): HubClientError {
	return new HubClientError("CANCELLED", "the caller gave up", { code: Code.Canceled, cause: signal.reason });
}

function violation({ field, description }: MessageShape<typeof BadRequestSchema>["fieldViolations"][number]) {
	return { field, description };
}
