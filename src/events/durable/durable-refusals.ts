import { HubError } from "../../hub-error.ts";

/** SUBSCRIPTION_NOT_FOUND. */
export function notFound(name: string): HubError {
	return new HubError("SUBSCRIPTION_NOT_FOUND", `there is no durable subscription "${name}"`, {
		resource: { type: "durable subscription", name },
	});
}

/** SUBSCRIPTION_RESET. */
export function resetError(name: string): HubError {
	return new HubError(
		"SUBSCRIPTION_RESET",
		`the durable subscription "${name}" was reset or deleted, or is consumed anew`,
	);
}

/** SUBSCRIPTION_EXISTS. */
export function exists(name: string): HubError {
	return new HubError("SUBSCRIPTION_EXISTS", `there is a durable subscription "${name}"`, {
		resource: { type: "durable subscription", name },
	});
}

/** PLUGIN_NOT_REGISTERED. */
export function notRegistered(pluginId: string): HubError {
	return new HubError("PLUGIN_NOT_REGISTERED", "only a registered plugin has durable subscriptions", {
		metadata: { plugin_id: pluginId },
	});
}
