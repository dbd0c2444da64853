/**
 * Why a call failed, in one word that a program may branch on. On the wire it is `google.rpc.ErrorInfo.reason`, and the
 * `ErrorReason` enum of `errors.proto` lists the same words. `rpc/error-codes.ts` gives each its canonical status code.
 */
export type Reason =
	// INVALID_ARGUMENT
	| "MALFORMED_REQUEST"
	| "INVALID_FIELD"
	| "INVALID_PLUGIN_ID"
	| "INVALID_EVENT_TYPE"
	| "INVALID_PATTERN"
	| "INVALID_FILTER"
	| "INVALID_MANIFEST"
	| "INVALID_PAGE_TOKEN"
	| "INVALID_BACKUP"
	// UNAUTHENTICATED
	| "CREDENTIAL_MISSING"
	| "CREDENTIAL_INVALID"
	| "CREDENTIAL_EXPIRED"
	| "CREDENTIAL_REVOKED"
	// PERMISSION_DENIED
	| "CALLER_NOT_ALLOWED"
	| "SPOOFED_SOURCE"
	| "RESERVED_EVENT_TYPE"
	| "NO_SEND_PERMISSION"
	| "TRUST_LEVEL_MISMATCH"
	| "INVALID_CONTENT"
	| "RECIPIENT_CANNOT_RECEIVE"
	| "INSUFFICIENT_PERMISSIONS"
	| "INSUFFICIENT_TRUST_LEVEL"
	| "PERMISSION_REVOKED"
	| "ROUTE_DENIED"
	| "MESSAGE_REFUSED"
	// NOT_FOUND
	| "PLUGIN_NOT_FOUND"
	| "INSTANCE_NOT_FOUND"
	| "SESSION_NOT_FOUND"
	| "DELIVERY_NOT_FOUND"
	| "CREDENTIAL_NOT_FOUND"
	| "NO_ROUTE"
	| "SERVICE_NOT_FOUND"
	| "DEAD_LETTER_NOT_FOUND"
	| "ROUTE_NOT_FOUND"
	| "SUBSCRIPTION_NOT_FOUND"
	| "STORE_NOT_FOUND"
	| "ENTRY_NOT_FOUND"
	// ALREADY_EXISTS
	| "PLUGIN_EXISTS"
	| "SUBSCRIPTION_EXISTS"
	| "STORE_EXISTS"
	// ABORTED
	| "REVISION_MISMATCH"
	| "ID_REUSED"
	| "SUBSCRIPTION_RESET"
	// FAILED_PRECONDITION
	| "PLUGIN_DISABLED"
	| "PLUGIN_NOT_REGISTERED"
	| "TRUST_TOO_LOW"
	| "FEATURE_NOT_AVAILABLE"
	| "VALIDATION_FAILED"
	| "VALUE_MISMATCH"
	| "MIXED_PERSISTENCE"
	// RESOURCE_EXHAUSTED
	| "RATE_LIMIT_EXCEEDED"
	| "MAILBOX_FULL"
	| "SLOW_CONSUMER"
	| "MESSAGE_TOO_LARGE"
	| "STORAGE_FULL"
	| "LIMIT_EXCEEDED"
	| "QUOTA_EXCEEDED"
	// OUT_OF_RANGE
	| "POSITION_TRIMMED"
	// UNAVAILABLE
	| "RECIPIENT_UNAVAILABLE"
	| "STORAGE_UNAVAILABLE"
	| "HUB_DRAINING"
	| "MIDDLEWARE_UNAVAILABLE"
	// DEADLINE_EXCEEDED
	| "DEADLINE_EXCEEDED"
	| "IDLE_TIMEOUT"
	// CANCELLED
	| "CANCELLED"
	// UNIMPLEMENTED
	| "METHOD_UNKNOWN"
	// INTERNAL
	| "INTERNAL";

/** One field of a request and what is wrong with it. `field` is a proto path such as `event.type` or `patterns[2]`. */
export interface FieldViolation {
	readonly field: string;
	readonly description: string;
}

/** An expectation of an entry of a store that did not hold. */
export interface FailedCheck {
	readonly store: string;
	readonly key: string;
	readonly expected:
		| { readonly kind: "any" | "absent" | "exists" }
		| { readonly kind: "revision"; readonly revision: bigint };
	/** The entry's revision; 0: there is none. */
	readonly actual: number;
}

/** The values that travel with a failure. Each becomes a standard detail message on the wire. */
export interface HubErrorOptions {
	/** Values a program may need, sent as `ErrorInfo.metadata`. Never secrets. */
	readonly metadata?: Readonly<Record<string, string>>;
	/** Sent as `BadRequest`. */
	readonly violations?: readonly FieldViolation[];
	/** Milliseconds after which a repeat may succeed; sent as `RetryInfo`. */
	readonly retryAfterMs?: number;
	/** Sent as `QuotaFailure`: the subject of the quota and what was exceeded. */
	readonly quota?: { readonly subject: string; readonly description: string };
	/** Sent as `PreconditionFailure`. */
	readonly precondition?: { readonly type: string; readonly subject: string; readonly description: string };
	/** Sent as `ResourceInfo`. */
	readonly resource?: { readonly type: string; readonly name: string };
	/** Sent as `FailedChecks`: all expectations that did not hold, where the failure is one of entries. */
	readonly failedChecks?: readonly FailedCheck[];
	readonly cause?: unknown;
}

/** A failure that the caller is meant to see. Anything else that is thrown reaches the caller as `internal error`. */
export class HubError extends Error {
	override readonly name = "HubError";
	readonly reason: Reason;
	readonly metadata: Readonly<Record<string, string>>;
	readonly options: HubErrorOptions;

	constructor(reason: Reason, message: string, options: HubErrorOptions = {}) {
		super(message, options.cause === undefined ? undefined : { cause: options.cause });
		this.reason = reason;
		this.metadata = options.metadata ?? {};
		this.options = options;
	}

	/** A refusal of one request field. */
	static field(field: string, description: string, reason: Reason = "INVALID_FIELD"): HubError {
		return new HubError(reason, `${field}: ${description}`, {
			metadata: { field },
			violations: [{ field, description }],
		});
	}
	/**
	 * The same refusal with its fields named by `path`, for whoever knows where in a request the part stands that was
	 * refused. This error itself where it names no field.
	 */
	placed(path: (field: string) => string): HubError {
		const { violations } = this.options;
		if (violations === undefined) return this;
		const placed = violations.map((violation) => ({ ...violation, field: path(violation.field) }));
		const metadata = { ...this.metadata, field: placed[0]?.field ?? "" };
		return new HubError(this.reason, this.message, {
			...this.options,
			metadata,
			violations: placed,
			cause: this.cause,
		});
	}
}
