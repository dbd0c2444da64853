/** What an inspector decides about a message, in wire form where it has one, and not yet checked. */
export type Verdict =
	| { readonly kind: "pass" }
	| {
			readonly kind: "change";
			/** `Payload`; undefined: it stays. */
			readonly payload: Uint8Array | undefined;
			/** Set over those that are there; undefined takes one away. */
			readonly attributes: ReadonlyMap<string, string | undefined>;
	  }
	/** `ReplyContent`. */
	| { readonly kind: "answer"; readonly reply: Uint8Array }
	| { readonly kind: "refuse"; readonly reason: string };

/** What an inspector may say of itself. */
export const INSPECTOR_LIMITS = Object.freeze({
	/** The highest order; negative, the lowest. */
	order: 1000,
	/** Where it does not say. */
	defaultDeadlineMs: 250,
	maxDeadlineMs: 5000,
});

/** Who looks at messages on their way, in this process or outside. */
export interface Inspector {
	/** Unique among inspectors. */
	readonly id: string;
	/** What a message that it changed says, and who it names as the source of an answer. */
	readonly name: string;
	/** Lower is asked first. */
	readonly order: number;
	/** How long a verdict may take. */
	readonly deadlineMs: number;
	/** Whether a message passes where there is no verdict. */
	readonly failsOpen: boolean;
	/** Whether the message is for it. `type` is in canonical form. */
	admits(type: string, from: string, to: string): boolean;
	/**
	 * Asks for a verdict on a `Message` in wire form. `settle` may be called at any time and any number of times, of which the first
	 * counts; undefined: there will be none. What is returned says that nobody waits any more.
	 */
	inspect(
		message: Uint8Array,
		route: { readonly from: string; readonly to: string },
		settle: (verdict: Verdict | undefined) => void,
	): () => void;
}

/** The order in which inspectors are asked. */
export function compareInspectors(a: Inspector, b: Inspector): number {
	return a.order - b.order || (a.id < b.id ? -1 : 1);
}
