import type { Clock, IdSource, Timer } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import { type Authenticator, type Caller, type PeerInfo, principalOf } from "../security/caller.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Lane } from "../telemetry/metrics.ts";
import { BodyBudget } from "./body-budget.ts";
import type { CallHeaders } from "./call-headers.ts";
import { isUnexpected, type Status, toStatus } from "./error-codes.ts";
import type { RateClass } from "./method-policy.ts";
import type { MountedMethod } from "./method-table.ts";
import { type PublicStreamLimits, PublicStreams } from "./public-streams.ts";
import { ServerCall } from "./server-call.ts";

/** Decides whether a caller has budget left for a call. */
export interface RateGate {
	/** Throws or rejects with RATE_LIMIT_EXCEEDED; a call that is refused here uses nothing. */
	admit(caller: Caller, rateClass: RateClass, call: ServerCall): void | Promise<void>;
}

/** Hears of calls that were refused before their handler ran, for the audit trail. Must not throw. */
export interface RefusalListener {
	refused(call: ServerCall, error: HubError): void;
}

export interface PipelineOptions {
	readonly authenticator: Authenticator;
	readonly logger: Logger;
	readonly clock: Clock;
	readonly ids: IdSource;
	readonly rateGate?: RateGate;
	readonly refusals?: RefusalListener;
	readonly limits?: CallLimits;
}

/** What a request may take before it is handled, and what is open to anyone. */
export interface CallLimits extends PublicStreamLimits {
	/** Milliseconds from its headers until the request of a call that takes one is there. */
	readonly requestBodyMs: number;
	/** Bytes of unhandled requests of one principal, and of all callers without a credential together. */
	readonly requestBytes: number;
}

const CALL_LIMITS: CallLimits = {
	requestBodyMs: 30_000,
	requestBytes: 64 * 1024 * 1024,
	publicStreamsPerConnection: 16,
	publicStreams: 1024,
};

/** How many times within the time that a request may take it is looked for late ones. */
const LOOKS = 10;

/**
 * What happens around every handler, the same on both lanes: observe, authenticate, method policy, rate class, handler,
 * error translation. A lane calls `open` when the headers are there, `admit` before it reads the body, the handler, and
 * `fail` or `close` once.
 */
export class Pipeline {
	readonly #options: PipelineOptions;
	readonly #open = new Set<ServerCall>();
	readonly #limits: CallLimits;
	readonly #bodies: BodyBudget;
	readonly #publicStreams: PublicStreams;
	#draining: HubError | undefined;
	/** One timer for all calls, so that a request which is there at once costs none. Runs while there are calls. */
	#look: Timer | undefined;

	constructor(options: PipelineOptions) {
		this.#options = options;
		this.#limits = options.limits ?? CALL_LIMITS;
		this.#bodies = new BodyBudget(this.#limits.requestBytes);
		this.#publicStreams = new PublicStreams(this.#limits);
	}

	/** Calls in progress. */
	get openCalls(): number {
		return this.#open.size;
	}

	/** Observe: every call that is opened is closed exactly once. */
	open(mounted: MountedMethod, lane: Lane, headers: CallHeaders, peer: PeerInfo): ServerCall {
		const call = new ServerCall(mounted, lane, headers, peer, this.#options.clock, this.#options.ids);
		this.#open.add(call);
		mounted.series[lane].begin();
		this.#look ??= this.#lookLater();
		return call;
	}

	/**
	 * Counts `bytes` as what the hub holds of the call's request, until it is told otherwise or the call ends. Throws
	 * LIMIT_EXCEEDED where its principal holds too many.
	 */
	hold(call: ServerCall, bytes: number): void {
		if (call.settled || bytes === call.heldBytes) return;
		this.#bodies.change(principalOf(call.caller), call.heldBytes, bytes);
		call.heldBytes = bytes;
	}

	/**
	 * Headers, authenticate, method policy, rate class. Returns undefined when all of it was decided at once, which is the common
	 * case; throws or rejects with a `HubError` where the call is refused.
	 */
	admit(call: ServerCall): Promise<void> | undefined {
		const { authenticator } = this.#options;
		if (this.#draining) throw this.#draining;
		if (call.headers.error) throw call.headers.error;
		try {
			const caller = authenticator.authenticate(call.headers.authorization, call.peer);
			if (caller instanceof Promise) return this.#admitLater(call, caller);
			const gate = this.#admitCaller(call, caller);
			return gate ? this.#reportRefusal(call, gate) : undefined;
		} catch (error) {
			this.#refused(call, error);
			throw error;
		}
	}

	/** Error translation. Logs what the caller may not see, and closes the call. */
	fail(call: ServerCall, error: unknown): Status {
		// Whatever a handler threw because of its signal, the peer hears why the signal fired.
		const cause = call.abortReason ?? (call.drainReason && isUnexpected(error) ? call.drainReason : error);
		const status = toStatus(cause, call.requestId);
		if (isUnexpected(cause)) {
			this.#options.logger.error(
				{ method: call.method, requestId: call.requestId, peer: call.peer.address, err: cause },
				"a handler failed unexpectedly",
			);
		}
		this.close(call, status.code);
		return status;
	}

	/** Observes the end of a call. `code` is canonical, 0 for success. Later calls do nothing. */
	close(call: ServerCall, code: number): void {
		if (call.heldBytes > 0) this.hold(call, 0);
		if (!call.settle()) return;
		this.#open.delete(call);
		if (call.isPublicStream) this.#publicStreams.release(call.peer.address);
		call.mounted.series[call.lane].end(code, this.#options.clock.monotonic() - call.startedAt);
	}

	/** Refuses new calls and tells those in progress. */
	drain(): void {
		if (this.#draining) return;
		this.#draining = new HubError("HUB_DRAINING", "the hub is stopping; connect to another one or try again", {
			retryAfterMs: 1000,
		});
		for (const call of this.#open) call.drain(this.#draining);
	}

	/** Ends the look for late requests: no call is opened any more. */
	stop(): void {
		this.#look?.cancel();
	}

	#lookLater(): Timer {
		return this.#options.clock.after(this.#limits.requestBodyMs / LOOKS, () => this.#endLate());
	}

	#endLate(): void {
		const before = this.#options.clock.monotonic() - this.#limits.requestBodyMs;
		for (const call of this.#open) {
			// They are in the order in which they began.
			if (call.startedAt > before) break;
			if (!call.isReceived) call.abort(new HubError("DEADLINE_EXCEEDED", "the request took too long to arrive"));
		}
		this.#look = this.#open.size === 0 ? undefined : this.#lookLater();
	}

	async #admitLater(call: ServerCall, caller: Promise<Caller>): Promise<void> {
		try {
			await this.#admitCaller(call, await caller);
		} catch (error) {
			this.#refused(call, error);
			throw error;
		}
	}

	async #reportRefusal(call: ServerCall, gate: Promise<void>): Promise<void> {
		try {
			await gate;
		} catch (error) {
			this.#refused(call, error);
			throw error;
		}
	}

	#admitCaller(call: ServerCall, caller: Caller): Promise<void> | undefined {
		call.caller = caller;
		const { policy } = call.mounted;
		if (!policy) throw new HubError("CALLER_NOT_ALLOWED", `${call.method} may not be called`);
		if (policy.callers === "public" && call.mounted.descriptor.methodKind !== "unary" && !call.settled) {
			this.#publicStreams.take(call.peer.address);
			call.isPublicStream = true;
		}
		if (policy.callers !== "public" && policy.callers !== "enrolling") {
			if (caller.kind === "anonymous") {
				throw new HubError("CREDENTIAL_MISSING", "this call needs a credential: send `authorization: Bearer <token>`");
			}
			if (policy.callers !== "authenticated" && policy.callers !== caller.kind) {
				throw new HubError("CALLER_NOT_ALLOWED", `${call.method} is for ${policy.callers}s`);
			}
		}
		if (policy.rateClass === "none" || !this.#options.rateGate) return undefined;
		return this.#options.rateGate.admit(caller, policy.rateClass, call) ?? undefined;
	}

	#refused(call: ServerCall, error: unknown): void {
		if (error instanceof HubError) this.#options.refusals?.refused(call, error);
	}
}
