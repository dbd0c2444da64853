import { HubError } from "../hub-error.ts";
import type { RouteDenial } from "./actions.ts";
import type { Refusal } from "./guard-rules.ts";

/** One copy of a message for many. */
export interface ReachedCopy {
	/** The plugin that it goes to. */
	readonly recipient: string;
	readonly denial?: RouteDenial | undefined;
	/** Whether a route leads it to another plugin than the recipient that was meant. */
	readonly redirected: boolean;
}

interface ReachOptions {
	readonly refusal: (copy: ReachedCopy) => Refusal | undefined;
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

	/** Undefined: the copy may go where it goes. */
	refusal(copy: ReachedCopy): HubError | undefined {
		const refusal = this.#options.refusal(copy);
		if (refusal === undefined) return undefined;
		this.#note(refusal, copy.recipient);
		return refusal.error;
	}

	/** Gathers what a middleware refuses as what the guard refuses. Other errors are none of them. */
	failed(recipient: string, error: unknown): void {
		if (error instanceof HubError && error.reason === "MESSAGE_REFUSED") {
			this.#note({ rule: "message_refused", error }, recipient);
		}
	}

	/** To be called after the last recipient: records what was refused since it was called last. */
	record(): void {
		for (const [reason, { count, first, message }] of this.#refused) {
			this.#options.record(reason, { recipients: String(count), first_recipient: first, message });
		}
		this.#refused.clear();
	}

	#note({ rule, error }: Refusal, recipient: string): void {
		const before = this.#refused.get(rule);
		if (before === undefined) this.#refused.set(rule, { count: 1, first: recipient, message: error.message });
		else before.count++;
	}
}
