import type { MessageInitShape } from "@bufbuild/protobuf";
import type { PermissionsSchema } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import type { HubClient, HubClientOptions } from "../../src/client/exports.ts";
import { ALL_GRANTS, manifestOf, type TestHub } from "./hub.ts";

/** Opens a client of one kind or another. */
export type OpenClient = (options: HubClientOptions & { readonly url: string }) => Promise<HubClient>;

/** A client of a plugin with these grants. Its owner closes it before the hub is closed. */
export async function clientPlugin(
	hub: TestHub,
	id: string,
	open: OpenClient,
	options: HubClientOptions & { readonly url?: string } = {},
	grants: MessageInitShape<typeof PermissionsSchema> = ALL_GRANTS,
): Promise<HubClient> {
	const { admin } = hub.operator;
	const { token } = await admin.issueCredential({ principal: { case: "pluginId", value: id } });
	await admin.setPermissions({ pluginId: id, permissions: grants });
	const logger = { debug() {}, warn() {}, error() {} };
	return await open({ url: hub.url, token, manifest: manifestOf(id), logger, ...options });
}
