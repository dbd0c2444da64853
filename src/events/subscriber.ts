/** Who reads events. */
export interface Subscriber {
	/** What its subscriptions are counted under: `plugin:<id>` or `operator:<id>`. */
	readonly principal: string;
	/** Undefined: an operator, who sees everything. */
	readonly pluginId: string | undefined;
}
