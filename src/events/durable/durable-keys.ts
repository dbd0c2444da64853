/** Keys of durable subscriptions. Plugin ids and names hold no `/`. */
export const durableKeys = Object.freeze({
	/** DurableDefinitionRecord. */
	definition: (pluginId: string, name: string) => `subscription/definition/${pluginId}/${name}`,
	/** Of one plugin's definitions; of all of them for an empty id. */
	definitions: (pluginId: string) => `subscription/definition/${pluginId === "" ? "" : `${pluginId}/`}`,
	/** DurableProgressRecord. */
	progress: (pluginId: string, name: string) => `subscription/progress/${pluginId}/${name}`,
	/** DeadEventRecord. */
	dead: (pluginId: string, name: string, slot: number) => `subscription/dead/${pluginId}/${name}/${slot}`,
	deadOf: (pluginId: string, name: string) => `subscription/dead/${pluginId}/${name}/`,
});
