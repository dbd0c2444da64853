import type { HubError } from "../hub-error.ts";
import type { Refusal } from "./guard-rules.ts";

interface ReachOptions {
	readonly refusal: (recipient: string) => Refusal | undefined;
	readonly record: (reason: string, details: Readonly<Record<string, string>>) => void;
}

/**
 * Whom one message for many may reach. Refusals are gathered, so that a message for thousands is one denial a reason and
 * not thousands.
 */
export class Reach {
	readonly #options: ReachOptions;
	readonly #refused = new Map<string, { count: number; readonly first: string; readonly message: string }>();

	constructor(options: ReachOptions) {
		this.#options = options;
	}

	/** Undefined: the recipient may be reached. */
	refusal(recipient: string): HubError | undefined {
		const refusal = this.#options.refusal(recipient);
		if (refusal === undefined) return undefined;
		const { rule, error } = refusal;
		const before = this.#refused.get(rule);
		if (before === undefined) this.#refused.set(rule, { count: 1, first: recipient, message: error.message });
		else before.count++;
		return error;
	}

	/** To be called once, after the last recipient: records what was refused. */
	record(): void {
		for (const [reason, { count, first, message }] of this.#refused) {
			this.#options.record(reason, { recipients: String(count), first_recipient: first, message });
		}
	}
}
