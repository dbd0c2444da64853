/** Where a sender wants a message to go. */
export interface RecipientAddress {
	readonly kind: "plugin" | "capability" | "alias";
	readonly name: string;
}

/** One way to find the plugin that an address leads to. */
export interface RecipientResolver {
	/** The plugin's id, whether or not there is such a plugin; undefined: the next resolver is asked. */
	resolve(address: RecipientAddress, sender: string): string | undefined;
}

/** The resolver that every hub has: a plugin's id leads to that plugin. */
export const pluginIdResolver: RecipientResolver = Object.freeze({
	resolve: ({ kind, name }: RecipientAddress) => (kind === "plugin" ? name : undefined),
});

/** What is known of plugins, whether attached or not. */
export interface RecipientDirectory {
	lookup(pluginId: string): "unknown" | "present" | "disabled";
	/** Told once a plugin is no longer registered. The listener must not throw and must return at once. */
	onRemoved(listener: (pluginId: string) => void): Disposable;
}

/** Which instances of plugins hold a lease. */
export interface InstanceLeases {
	isLive(pluginId: string, instanceId: string): boolean;
	onEnd(listener: (pluginId: string, instanceId: string) => void): Disposable;
}
