const RETURNED = "subscription/returned/";

/** Keys of durable subscriptions. Plugin ids and names hold no `/`. */
export const durableKeys = Object.freeze({
	/** DurableDefinitionRecord. */
	definition: (pluginId: string, name: string) => `subscription/definition/${pluginId}/${name}`,
	/** Of one plugin's definitions; of all of them for an empty id. */
	definitions: (pluginId: string) => `subscription/definition/${pluginId === "" ? "" : `${pluginId}/`}`,
	/** DurableProgressRecord. */
	progress: (pluginId: string, name: string) => `subscription/progress/${pluginId}/${name}`,
	/** ReturnedEventRecord; `of` is `returnedOf` of the subscription. */
	returned: (of: string, sequence: number) => `${of}${sequence.toString(16).padStart(14, "0")}`,
	/** `revision` is that of the definition, so that what came back before a reset is not of the subscription any more. */
	returnedOf: (pluginId: string, name: string, revision: number) => `${RETURNED}${pluginId}/${name}/${revision}/`,
	/** Of all subscriptions. */
	allReturned: RETURNED,
	/** What the key of a ReturnedEventRecord says. */
	parseReturned: (key: string) => {
		const [pluginId = "", name = "", revision = "", sequence = ""] = key.slice(RETURNED.length).split("/");
		return { pluginId, name, revision: Number(revision), sequence: Number.parseInt(sequence, 16) };
	},
});
