import { type Permissions, TrustLevel } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import { HubError } from "../hub-error.ts";

/** What a plugin is trusted before anybody says otherwise. */
export const DEFAULT_TRUST = TrustLevel.UNTRUSTED;

/** Levels are numbered in their order: a higher one allows all that a lower one allows. */
export function trustReaches(level: TrustLevel, needed: TrustLevel): boolean {
	return level >= needed;
}

/** `TRUSTED` and so on, as messages and audit records say it. */
export function trustName(level: TrustLevel): string {
	return TrustLevel[level] ?? String(level);
}

/** A grant that a trust level does not allow. */
export interface ExcessGrant {
	/** The path inside Permissions, such as `network` or `stores[2].requires_trust`. */
	readonly field: string;
	readonly needs: TrustLevel;
}

/**
 * The grants among `permissions` that `level` does not allow: network and file system need BASIC; `intercept` and stores
 * that require trust need TRUSTED. Such grants have no effect.
 */
export function excessGrants(permissions: Permissions, level: TrustLevel): readonly ExcessGrant[] {
	const excess: ExcessGrant[] = [];
	const cap = (granted: boolean, field: string, needs: TrustLevel) => {
		if (granted && !trustReaches(level, needs)) excess.push({ field, needs });
	};
	for (const [index, grant] of permissions.stores.entries()) {
		cap(grant.requiresTrust, `stores[${index}].requires_trust`, TrustLevel.TRUSTED);
	}
	cap(permissions.intercept, "intercept", TrustLevel.TRUSTED);
	cap(permissions.network, "network", TrustLevel.BASIC);
	cap(permissions.fileSystem, "file_system", TrustLevel.BASIC);
	return excess;
}

/** Refuses with TRUST_TOO_LOW what `excessGrants` finds, naming all of it. */
export function requireTrustFor(permissions: Permissions, level: TrustLevel, pluginId: string): void {
	const excess = excessGrants(permissions, level);
	const first = excess[0];
	if (first === undefined) return;
	const described = excess.map(({ field, needs }) => `${field} needs ${trustName(needs)}`).join(", ");
	throw new HubError("TRUST_TOO_LOW", `plugin "${pluginId}" is ${trustName(level)}: ${described}`, {
		metadata: { plugin_id: pluginId, trust_level: trustName(level), field: `permissions.${first.field}` },
		precondition: { type: "TRUST_LEVEL", subject: `plugin:${pluginId}`, description: described },
	});
}
