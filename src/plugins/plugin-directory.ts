/** What the rest of the hub may ask about plugins while it serves a call: map lookups, no waiting. */
export interface PluginDirectory {
	/** Whether the id is registered, and whether an operator has shut it out. */
	lookup(pluginId: string): "unknown" | "present" | "disabled";
	/** Whether `callerId` may know of the plugin and use it; false where there is none. */
	admits(pluginId: string, callerId: string): boolean;
	/** Whether the instance holds a lease. */
	isLive(pluginId: string, instanceId: string): boolean;
	/** Told once an instance is stored as ended. The listener must not throw and must return at once. */
	onInstanceEnd(listener: (pluginId: string, instanceId: string) => void): Disposable;
}
