import type { Client } from "@connectrpc/connect";
import type { SecurityAdminService } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import { connect, type HubClient } from "../../src/client/index.ts";
import { ALL_GRANTS, manifestOf, type TestHub } from "../harness/hub.ts";

/** A plugin `interop-echo` that answers every `echo` request with what it was sent. */
export async function attachEcho(hub: TestHub): Promise<HubClient> {
	const token = await credentialFor(hub, "interop-echo");
	const client = await connect({ url: hub.url, token, manifest: manifestOf("interop-echo") });
	await client.messages.handle("echo", (request) => request.data).ready;
	return client;
}

/** A token for a plugin that may do everything and has yet to register. */
export function credentialFor(hub: TestHub, pluginId: string): Promise<string> {
	return enrol(hub.operator.admin, pluginId);
}

/** The same through any operator's client. */
export async function enrol(admin: Client<typeof SecurityAdminService>, pluginId: string): Promise<string> {
	const { token } = await admin.issueCredential({ principal: { case: "pluginId", value: pluginId } });
	await admin.setPermissions({ pluginId, permissions: ALL_GRANTS });
	return token;
}
