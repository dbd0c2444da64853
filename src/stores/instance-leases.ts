/** What of the plugins' instances the stores need: entries may live by one. Ids of instances are not used again. */
export interface InstanceLeases {
	isLive(pluginId: string, instanceId: string): boolean;
	/** Calls back once an instance has ended. */
	onEnd(listener: (pluginId: string, instanceId: string) => void): Disposable;
}
