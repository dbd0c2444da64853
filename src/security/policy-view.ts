import { create, fromBinary } from "@bufbuild/protobuf";
import {
	type CredentialRecord,
	CredentialRecordSchema,
	PermissionsRecordSchema,
	TrustRecordSchema,
} from "#gen/qirvo/hub/storage/v1/records_pb.js";
import { type Permissions, PermissionsSchema, type TrustLevel } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import type { Clock } from "../clock/clock.ts";
import { KeyFollower } from "../state/key-follower.ts";
import { keys, prefixes } from "../state/key-layout.ts";
import type { KvChange, KvStore } from "../state/kv-store.ts";
import { Grants } from "./grants.ts";
import { RecentCache } from "./recent-cache.ts";
import { DEFAULT_TRUST } from "./trust.ts";

/** Policies kept ready, at least; twice as many at most. A policy takes about 2 KiB, and 60 KiB at its largest. */
const CACHED_POLICIES = 8192;

/** What is in force for one plugin. */
export interface PluginPolicy {
	readonly grants: Grants;
	readonly trust: TrustLevel;
	readonly disabled: boolean;
}

/** Where the guard reads policy. */
export interface PolicySource {
	/** Default deny for a plugin of which nothing is known. */
	plugin(pluginId: string): PluginPolicy;
}

/** A stored value and its revision; revision 0 and the default where nothing is stored. */
export interface Revised<T> {
	readonly value: T;
	readonly revision: number;
}

/** The principals that a change of policy concerns; `all` where changes were missed. */
export type Affected = ReadonlySet<string> | "all";

const NOTHING_GRANTED: PluginPolicy = Object.freeze({
	grants: new Grants(create(PermissionsSchema)),
	trust: DEFAULT_TRUST,
	disabled: false,
});

/**
 * The policy in force, read from the store on demand and kept current by watching it, so that what another hub changes
 * counts here as well. Reads are synchronous.
 */
export class PolicyView implements PolicySource, AsyncDisposable {
	readonly #kv: KvStore;
	readonly #follower: KeyFollower;
	readonly #policies = new RecentCache<PluginPolicy>(CACHED_POLICIES);
	readonly #listeners = new Set<(affected: Affected) => void>();
	readonly #waiting = new Set<{ readonly revision: number; readonly resolve: () => void }>();
	#epoch: number;
	#disposed = false;

	constructor(kv: KvStore, clock: Clock) {
		this.#kv = kv;
		this.#epoch = kv.revision;
		this.#follower = new KeyFollower({
			kv,
			clock,
			prefix: prefixes.policy,
			changed: (changes) => this.#changed(changes),
			missed: () => this.#missed(),
		});
	}

	/** Begins to follow changes. Before this the view is only good for reading records. */
	start(): void {
		this.#policies.clear();
		this.#follower.start();
	}

	/** The last revision of policy that this view has taken in. What was decided under another epoch is to be decided anew. */
	get epoch(): number {
		return this.#epoch;
	}

	plugin(pluginId: string): PluginPolicy {
		const cached = this.#policies.get(pluginId);
		if (cached !== undefined) return cached;
		const permissions = this.permissions(pluginId);
		const trust = this.trust(pluginId);
		const disabled = this.#kv.get(keys.disabled(pluginId)) !== undefined;
		// Ids that somebody made up must not push real policies out.
		if (permissions.revision === 0 && trust.revision === 0 && !disabled) return NOTHING_GRANTED;
		const policy = Object.freeze({ grants: new Grants(permissions.value), trust: trust.value, disabled });
		this.#policies.set(pluginId, policy);
		return policy;
	}

	/** As stored; empty where nothing was ever granted. */
	permissions(pluginId: string): Revised<Permissions> {
		const entry = this.#kv.get(keys.permissions(pluginId));
		const stored = entry && fromBinary(PermissionsRecordSchema, entry.value).permissions;
		return { value: stored ?? create(PermissionsSchema), revision: entry?.revision ?? 0 };
	}

	/** As stored; UNTRUSTED where nothing was ever set. */
	trust(pluginId: string): Revised<TrustLevel> {
		const entry = this.#kv.get(keys.trust(pluginId));
		const stored = entry && fromBinary(TrustRecordSchema, entry.value).trustLevel;
		return { value: stored ?? DEFAULT_TRUST, revision: entry?.revision ?? 0 };
	}

	/** The record of a credential; undefined where it never was or was purged. */
	credential(principal: string, credentialId: string): CredentialRecord | undefined {
		const entry = this.#kv.get(keys.credential(principal, credentialId));
		return entry && fromBinary(CredentialRecordSchema, entry.value);
	}

	/** `listener` is called after the view has changed, until the result is disposed. It must not throw. */
	onChange(listener: (affected: Affected) => void): Disposable {
		this.#listeners.add(listener);
		return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
	}

	/** Resolves once the view has taken in the policy write of this revision, or is disposed. */
	async applied(revision: number): Promise<void> {
		if (this.#disposed || this.#epoch >= revision) return;
		await new Promise<void>((resolve) => this.#waiting.add({ revision, resolve }));
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#disposed = true;
		this.#wake(Number.POSITIVE_INFINITY);
		await this.#follower[Symbol.asyncDispose]();
		this.#listeners.clear();
	}

	#changed(changes: readonly KvChange[]): void {
		const affected = new Set<string>();
		for (const { key } of changes) {
			const [, kind, subject] = key.split("/", 3);
			if (subject === undefined) continue;
			if (kind === "credential") {
				affected.add(subject);
			} else {
				this.#policies.delete(subject);
				affected.add(`plugin:${subject}`);
			}
		}
		this.#advance(changes.at(-1)?.revision ?? this.#epoch, affected);
	}

	#missed(): void {
		this.#policies.clear();
		this.#advance(this.#kv.revision, "all");
	}

	#advance(epoch: number, affected: Affected): void {
		this.#epoch = Math.max(this.#epoch, epoch);
		for (const listener of this.#listeners) listener(affected);
		this.#wake(this.#epoch);
	}

	#wake(revision: number): void {
		for (const waiter of this.#waiting) {
			if (waiter.revision > revision) continue;
			this.#waiting.delete(waiter);
			waiter.resolve();
		}
	}
}
