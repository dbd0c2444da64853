import { create, type DescMessage, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { anyPack, type DurationSchema } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import {
	BadRequestSchema,
	ErrorInfoSchema,
	PreconditionFailureSchema,
	QuotaFailureSchema,
	RequestInfoSchema,
	ResourceInfoSchema,
	RetryInfoSchema,
} from "#gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "#gen/google/rpc/status_pb.js";
import { FailedChecksSchema } from "#gen/qirvo/hub/v1/entries_pb.js";
import { HubError, type Reason } from "../hub-error.ts";
import { CompactedError, StorageError } from "../state/kv-store.ts";
import { failedChecksOf } from "./failed-check.ts";

/** The domain of every `ErrorInfo` the hub sends. */
export const ERROR_DOMAIN = "hub.qirvo";

/** The canonical code of each reason. The only place where the two meet. */
export const CODE_OF = Object.freeze({
	MALFORMED_REQUEST: Code.InvalidArgument,
	INVALID_FIELD: Code.InvalidArgument,
	INVALID_PLUGIN_ID: Code.InvalidArgument,
	INVALID_EVENT_TYPE: Code.InvalidArgument,
	INVALID_PATTERN: Code.InvalidArgument,
	INVALID_FILTER: Code.InvalidArgument,
	INVALID_MANIFEST: Code.InvalidArgument,
	INVALID_PAGE_TOKEN: Code.InvalidArgument,
	INVALID_BACKUP: Code.InvalidArgument,
	CREDENTIAL_MISSING: Code.Unauthenticated,
	CREDENTIAL_INVALID: Code.Unauthenticated,
	CREDENTIAL_EXPIRED: Code.Unauthenticated,
	CREDENTIAL_REVOKED: Code.Unauthenticated,
	CALLER_NOT_ALLOWED: Code.PermissionDenied,
	SPOOFED_SOURCE: Code.PermissionDenied,
	RESERVED_EVENT_TYPE: Code.PermissionDenied,
	NO_SEND_PERMISSION: Code.PermissionDenied,
	TRUST_LEVEL_MISMATCH: Code.PermissionDenied,
	INVALID_CONTENT: Code.PermissionDenied,
	RECIPIENT_CANNOT_RECEIVE: Code.PermissionDenied,
	INSUFFICIENT_PERMISSIONS: Code.PermissionDenied,
	INSUFFICIENT_TRUST_LEVEL: Code.PermissionDenied,
	PERMISSION_REVOKED: Code.PermissionDenied,
	ROUTE_DENIED: Code.PermissionDenied,
	MESSAGE_REFUSED: Code.PermissionDenied,
	PLUGIN_NOT_FOUND: Code.NotFound,
	INSTANCE_NOT_FOUND: Code.NotFound,
	SESSION_NOT_FOUND: Code.NotFound,
	DELIVERY_NOT_FOUND: Code.NotFound,
	CREDENTIAL_NOT_FOUND: Code.NotFound,
	NO_ROUTE: Code.NotFound,
	SERVICE_NOT_FOUND: Code.NotFound,
	DEAD_LETTER_NOT_FOUND: Code.NotFound,
	ROUTE_NOT_FOUND: Code.NotFound,
	SUBSCRIPTION_NOT_FOUND: Code.NotFound,
	STORE_NOT_FOUND: Code.NotFound,
	ENTRY_NOT_FOUND: Code.NotFound,
	PLUGIN_EXISTS: Code.AlreadyExists,
	SUBSCRIPTION_EXISTS: Code.AlreadyExists,
	STORE_EXISTS: Code.AlreadyExists,
	REVISION_MISMATCH: Code.Aborted,
	ID_REUSED: Code.Aborted,
	SUBSCRIPTION_RESET: Code.Aborted,
	PLUGIN_DISABLED: Code.FailedPrecondition,
	PLUGIN_NOT_REGISTERED: Code.FailedPrecondition,
	TRUST_TOO_LOW: Code.FailedPrecondition,
	FEATURE_NOT_AVAILABLE: Code.FailedPrecondition,
	VALIDATION_FAILED: Code.FailedPrecondition,
	VALUE_MISMATCH: Code.FailedPrecondition,
	MIXED_PERSISTENCE: Code.FailedPrecondition,
	RATE_LIMIT_EXCEEDED: Code.ResourceExhausted,
	MAILBOX_FULL: Code.ResourceExhausted,
	SLOW_CONSUMER: Code.ResourceExhausted,
	MESSAGE_TOO_LARGE: Code.ResourceExhausted,
	STORAGE_FULL: Code.ResourceExhausted,
	LIMIT_EXCEEDED: Code.ResourceExhausted,
	QUOTA_EXCEEDED: Code.ResourceExhausted,
	POSITION_TRIMMED: Code.OutOfRange,
	RECIPIENT_UNAVAILABLE: Code.Unavailable,
	STORAGE_UNAVAILABLE: Code.Unavailable,
	HUB_DRAINING: Code.Unavailable,
	MIDDLEWARE_UNAVAILABLE: Code.Unavailable,
	DEADLINE_EXCEEDED: Code.DeadlineExceeded,
	IDLE_TIMEOUT: Code.DeadlineExceeded,
	CANCELLED: Code.Canceled,
	METHOD_UNKNOWN: Code.Unimplemented,
	INTERNAL: Code.Internal,
} as const satisfies Record<Reason, Code>);

/** One standard detail message, ready to be packed. */
export interface StatusDetail {
	readonly desc: DescMessage;
	readonly value: MessageInitShape<DescMessage>;
}

/** How a call ended, in the terms of the wire. */
export interface Status {
	readonly code: Code;
	readonly message: string;
	readonly reason: Reason;
	/** Exactly one `ErrorInfo`, then whatever the error carries, then `RequestInfo` where the call has an id. */
	readonly details: readonly StatusDetail[];
}

/**
 * The one translation from a thrown value to what the peer sees. A failure that is not meant for the caller becomes
 * INTERNAL with no more than the request id, which every error carries; the second value of `unexpected` is for the log.
 */
export function toStatus(error: unknown, requestId: string): Status {
	return describe(visibleError(error, requestId), requestId);
}

/** What of a thrown value the caller may see. */
export function visibleError(error: unknown, requestId: string): HubError {
	return asHubError(error) ?? new HubError("INTERNAL", "internal error", { metadata: { request_id: requestId } });
}

/** Whether `toStatus` hides this error from the caller, so that it has to be logged. */
export function isUnexpected(error: unknown): boolean {
	return asHubError(error) === undefined || (error instanceof HubError && error.reason === "INTERNAL");
}

/** The failure a caller may see: the error itself, or what a storage fault means to a caller; undefined for all else. */
function asHubError(error: unknown): HubError | undefined {
	if (error instanceof HubError) return error;
	if (error instanceof StorageError) {
		return error.kind === "full"
			? new HubError("STORAGE_FULL", "the hub's storage is full", { cause: error, metadata: outcome(error) })
			: new HubError("STORAGE_UNAVAILABLE", "the hub's storage is not available", {
					cause: error,
					metadata: outcome(error),
				});
	}
	if (error instanceof CompactedError) {
		const oldest = String(error.oldest);
		return new HubError("POSITION_TRIMMED", `positions before ${oldest} are no longer kept`, {
			cause: error,
			metadata: { oldest },
		});
	}
	return undefined;
}

function outcome(error: StorageError): Record<string, string> {
	return { outcome: error.outcome };
}

function describe(error: HubError, requestId: string): Status {
	const { violations, retryAfterMs, quota, precondition, resource, failedChecks } = error.options;
	const details: StatusDetail[] = [errorInfo(error.reason, error.metadata)];
	if (violations) {
		const value = { fieldViolations: violations.map(({ field, description }) => ({ field, description })) };
		details.push({
			desc: BadRequestSchema,
			value: value satisfies MessageInitShape<typeof BadRequestSchema>,
		});
	}
	if (retryAfterMs !== undefined) {
		details.push({
			desc: RetryInfoSchema,
			value: { retryDelay: duration(retryAfterMs) } as MessageInitShape<DescMessage>,
		});
	}
	if (quota) {
		const value = { violations: [{ ...quota }] } satisfies MessageInitShape<typeof QuotaFailureSchema>;
		details.push({ desc: QuotaFailureSchema, value });
	}
	if (precondition) {
		const value = { violations: [{ ...precondition }] } satisfies MessageInitShape<typeof PreconditionFailureSchema>;
		details.push({ desc: PreconditionFailureSchema, value });
	}
	if (resource) {
		const value = {
			resourceType: resource.type,
			resourceName: resource.name,
		} satisfies MessageInitShape<typeof ResourceInfoSchema>;
		details.push({ desc: ResourceInfoSchema, value });
	}
	if (failedChecks) {
		details.push({ desc: FailedChecksSchema, value: failedChecksOf(failedChecks) });
	}
	if (requestId !== "") {
		details.push({
			desc: RequestInfoSchema,
			value: { requestId } satisfies MessageInitShape<typeof RequestInfoSchema>,
		});
	}
	return { code: CODE_OF[error.reason], message: error.message, reason: error.reason, details };
}

function errorInfo(reason: Reason, metadata: Readonly<Record<string, string>>): StatusDetail {
	const value = { reason, domain: ERROR_DOMAIN, metadata: { ...metadata } };
	return { desc: ErrorInfoSchema, value: value satisfies MessageInitShape<typeof ErrorInfoSchema> };
}

function duration(ms: number): MessageInitShape<typeof DurationSchema> {
	const whole = Math.max(0, Math.ceil(ms));
	return { seconds: BigInt(Math.floor(whole / 1000)), nanos: (whole % 1000) * 1_000_000 };
}

/** The bytes of the `google.rpc.Status` that `grpc-status-details-bin` carries. */
export function encodeStatus(status: Status): Uint8Array {
	return toBinary(
		StatusSchema,
		create(StatusSchema, {
			code: status.code,
			message: status.message,
			details: status.details.map(({ desc, value }) => anyPack(desc, create(desc, value))),
		}),
	);
}
