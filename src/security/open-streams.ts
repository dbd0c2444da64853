import type { Clock, Timer } from "../clock/clock.ts";
import { HubError, type Reason } from "../hub-error.ts";
import { KeyFollower } from "../state/key-follower.ts";
import { keys, prefixes } from "../state/key-layout.ts";
import type { KvStore } from "../state/kv-store.ts";
import type { AuditRecorder } from "./audit-entry.ts";
import { type Caller, principalOf } from "./caller.ts";
import { credentialProblem } from "./credential-state.ts";
import { disabledPlugin, revoked } from "./guard-rules.ts";
import type { Affected, PolicyView } from "./policy-view.ts";

/** A stream as the registry sees it. */
export interface OpenStream {
	/** Throws a `HubError` where the stream would not be admitted now. Called when the stream opens and after changes. */
	recheck(): void;
	/** Ends the stream with the error. Called once at most, and not after the stream was disposed. Must not throw. */
	revoke(error: HubError): void;
}

export interface OpenStreamsOptions {
	readonly kv: KvStore;
	readonly policy: PolicyView;
	readonly clock: Clock;
	readonly audit: AuditRecorder;
	/** Streams that one principal may hold at once. Default 1,024. */
	readonly maxPerPrincipal?: number;
}

const MAX_PER_PRINCIPAL = 1024;

/** The wall clock may step, so expiry is looked at no later than this, in milliseconds, while anything can expire. */
const EXPIRY_LOOK_MS = 60_000;

interface Entry {
	readonly caller: Caller;
	readonly stream: OpenStream;
	/** Which life of the registration the stream belongs to; 0: the plugin was not registered. */
	readonly registration: number;
	/** Whether it takes one of its principal's places. */
	readonly counts: boolean;
}

/** What one principal has open. */
interface Holding {
	readonly entries: Set<Entry>;
	/** Entries that count. */
	places: number;
}

/**
 * The long-lived streams and the calls that wait, by principal, so that a change of policy ends those that it concerns and looks at no others.
 * A stream ends with CREDENTIAL_REVOKED, CREDENTIAL_EXPIRED, PLUGIN_DISABLED or PERMISSION_REVOKED.
 */
export class OpenStreams implements AsyncDisposable {
	readonly #options: OpenStreamsOptions;
	readonly #maxPerPrincipal: number;
	readonly #byPrincipal = new Map<string, Holding>();
	readonly #registrations: KeyFollower;
	#changes: Disposable | undefined;
	#size = 0;
	#expiry: { readonly at: number; readonly timer: Timer } | undefined;

	constructor(options: OpenStreamsOptions) {
		this.#options = options;
		this.#maxPerPrincipal = options.maxPerPrincipal ?? MAX_PER_PRINCIPAL;
		this.#registrations = new KeyFollower({
			kv: options.kv,
			clock: options.clock,
			prefix: prefixes.registrations,
			changed: (changes) => {
				const gone = changes.filter((change) => change.value === undefined);
				this.#recheck(new Set(gone.map((change) => `plugin:${change.key.slice(prefixes.registrations.length)}`)));
			},
			missed: () => this.#recheck("all"),
		});
	}

	/** Begins to follow changes. The policy view must have been started. */
	start(): void {
		this.#changes ??= this.#options.policy.onChange((affected) => this.#recheck(affected));
		this.#registrations.start();
	}

	/** Streams and calls open now; 0 once all were disposed or revoked. */
	get size(): number {
		return this.#size;
	}

	/**
	 * Registers a stream until the result is disposed. Throws what `recheck` throws, what a change since authentication
	 * makes due, and LIMIT_EXCEEDED where the principal holds too many.
	 */
	open(caller: Caller, stream: OpenStream): Disposable {
		return this.#add({ caller, stream, registration: this.#registrationOf(caller), counts: true });
	}

	/**
	 * The same for a call that waits for its answer: it takes no place among its principal's streams, so whoever makes such
	 * calls bounds them.
	 */
	watch(caller: Caller, revoke: OpenStream["revoke"]): Disposable {
		const stream = { recheck: () => {}, revoke };
		return this.#add({ caller, stream, registration: this.#registrationOf(caller), counts: false });
	}

	#add(entry: Entry): Disposable {
		const problem = this.#problem(entry);
		if (problem !== undefined) throw problem;
		const { caller, counts } = entry;
		const principal = principalOf(caller);
		const holding = this.#byPrincipal.get(principal) ?? { entries: new Set<Entry>(), places: 0 };
		if (counts && holding.places >= this.#maxPerPrincipal) throw this.#tooMany(principal);
		holding.entries.add(entry);
		if (counts) holding.places++;
		this.#byPrincipal.set(principal, holding);
		this.#size++;
		if (caller.kind !== "anonymous" && caller.expiresAt !== undefined) this.#expectExpiry(caller.expiresAt);
		return { [Symbol.dispose]: () => void this.#remove(entry) };
	}

	/** Forgets every stream without ending it: the server ends its calls itself. */
	async [Symbol.asyncDispose](): Promise<void> {
		this.#changes?.[Symbol.dispose]();
		this.#expiry?.timer.cancel();
		this.#expiry = undefined;
		this.#byPrincipal.clear();
		this.#size = 0;
		await this.#registrations[Symbol.asyncDispose]();
	}

	#recheck(affected: Affected): void {
		const principals = affected === "all" ? [...this.#byPrincipal.keys()] : affected;
		for (const principal of principals) {
			for (const entry of [...(this.#byPrincipal.get(principal)?.entries ?? [])]) {
				const problem = this.#problem(entry);
				if (problem !== undefined) this.#revoke(entry, problem);
			}
		}
	}

	#problem({ caller, stream, registration }: Entry): HubError | undefined {
		const { policy, clock } = this.#options;
		if (caller.kind !== "anonymous") {
			const problem = credentialProblem(policy.credential(principalOf(caller), caller.credentialId), clock.now());
			if (problem !== undefined) return problem;
		}
		if (caller.kind === "plugin") {
			if (policy.plugin(caller.id).disabled) return disabledPlugin(caller.id);
			if (registration !== 0 && registration !== this.#registrationOf(caller)) return unregistered(caller.id);
		}
		try {
			stream.recheck();
			return undefined;
		} catch (error) {
			// What cannot be decided is not admitted.
			return error instanceof HubError ? error : new HubError("INTERNAL", "internal error", { cause: error });
		}
	}

	#revoke(entry: Entry, problem: HubError): void {
		// A stream that was disposed by the end of another one is not told.
		if (!this.#remove(entry)) return;
		const error = isRevocation(problem) ? problem : revoked(problem);
		this.#options.audit.record({
			event: "stream_revoked",
			actor: "hub",
			target: principalOf(entry.caller),
			reason: error.reason.toLowerCase(),
			details: { message: error.message },
		});
		entry.stream.revoke(error);
	}

	#remove(entry: Entry): boolean {
		const principal = principalOf(entry.caller);
		const holding = this.#byPrincipal.get(principal);
		if (holding === undefined || !holding.entries.delete(entry)) return false;
		this.#size--;
		if (entry.counts) holding.places--;
		if (holding.entries.size === 0) this.#byPrincipal.delete(principal);
		if (this.#size === 0) {
			this.#expiry?.timer.cancel();
			this.#expiry = undefined;
		}
		return true;
	}

	#expectExpiry(expiresAt: number): void {
		const now = this.#options.clock.now();
		const at = Math.min(expiresAt, now + EXPIRY_LOOK_MS);
		if (this.#expiry !== undefined && this.#expiry.at <= at) return;
		this.#expiry?.timer.cancel();
		this.#expiry = { at, timer: this.#options.clock.after(at - now, () => this.#expire()) };
	}

	#expire(): void {
		this.#expiry = undefined;
		const now = this.#options.clock.now();
		let next = Number.POSITIVE_INFINITY;
		for (const { entries } of [...this.#byPrincipal.values()]) {
			for (const entry of [...entries]) {
				const { caller } = entry;
				if (caller.kind === "anonymous" || caller.expiresAt === undefined) continue;
				if (caller.expiresAt <= now)
					this.#revoke(entry, new HubError("CREDENTIAL_EXPIRED", "the credential has expired"));
				else next = Math.min(next, caller.expiresAt);
			}
		}
		if (next !== Number.POSITIVE_INFINITY) this.#expectExpiry(next);
	}

	#registrationOf(caller: Caller): number {
		if (caller.kind !== "plugin") return 0;
		return this.#options.kv.get(keys.registration(caller.id))?.createRevision ?? 0;
	}

	#tooMany(principal: string): HubError {
		const limit = this.#maxPerPrincipal;
		return new HubError("LIMIT_EXCEEDED", `${principal} holds ${limit} open streams, which is the limit`, {
			metadata: { limit: String(limit) },
			quota: { subject: principal, description: `at most ${limit} open streams` },
		});
	}
}

const REVOCATIONS: ReadonlySet<Reason> = new Set<Reason>([
	"CREDENTIAL_REVOKED",
	"CREDENTIAL_EXPIRED",
	"PLUGIN_DISABLED",
	"PERMISSION_REVOKED",
]);

/** Whether the error says that the right to a stream was taken away. */
export function isRevocation(error: HubError): boolean {
	return REVOCATIONS.has(error.reason);
}

function unregistered(pluginId: string): HubError {
	return new HubError("PERMISSION_REVOKED", `plugin "${pluginId}" was unregistered`, {
		metadata: { plugin_id: pluginId },
	});
}
