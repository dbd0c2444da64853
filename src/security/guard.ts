import type { HubError } from "../hub-error.ts";
import type { Subject } from "../subjects/subject.ts";
import { type Action, denialEventOf, type ReachAction, type TopicAction, targetOf } from "./actions.ts";
import type { AuditRecorder } from "./audit-entry.ts";
import { type Caller, principalOf } from "./caller.ts";
import { type ContentFacts, type ContentRule, checkContent } from "./content-rule.ts";
import { type Facts, firstRefusal, type RateRule, type Refusal, revoked } from "./guard-rules.ts";
import type { PolicySource } from "./policy-view.ts";
import { Reach } from "./reach.ts";

export interface GuardOptions {
	readonly policy: PolicySource;
	readonly audit: AuditRecorder;
	/** Where the rules say that it is its turn. Default: admits. */
	readonly rate?: RateRule;
	/** Asked after size and structure. Default: admits. */
	readonly contentPolicy?: ContentRule;
}

const ADMIT = () => undefined;

/**
 * The one place where it is decided whether a caller may do something. The rules and their order are in
 * `guard-rules.ts`; the first that refuses is the one that is told and recorded.
 */
export class Guard {
	readonly #policy: PolicySource;
	readonly #audit: AuditRecorder;
	readonly #rate: RateRule;
	readonly #content: ContentRule;

	constructor(options: GuardOptions) {
		this.#policy = options.policy;
		this.#audit = options.audit;
		this.#rate = options.rate ?? (() => undefined);
		const policy = options.contentPolicy;
		this.#content = policy === undefined ? checkContent : (content) => checkContent(content) ?? policy(content);
	}

	/**
	 * Throws the refusal and records it. `content` is what an `emit` or `send` carries; leaving it out skips the content
	 * rule, for a caller that has none yet.
	 */
	check(caller: Caller, action: Action, content?: ContentFacts, requestId?: string): void {
		const refusal = this.refusal(caller, action, content);
		if (refusal === undefined) return;
		this.#audit.record({
			event: denialEventOf(action),
			actor: principalOf(caller),
			target: targetOf(action),
			reason: refusal.rule,
			details: { action: action.kind, message: refusal.error.message },
			requestId,
		});
		throw refusal.error;
	}

	/** Records that a message of the caller named somebody else as its source, which is refused before it can be checked. */
	spoofed(caller: Caller, error: HubError, requestId?: string): void {
		this.#audit.record({
			event: "message_denied",
			actor: principalOf(caller),
			target: "message",
			reason: error.reason.toLowerCase(),
			details: { message: error.message },
			requestId,
		});
	}

	/** The refusal that `check` would throw, recorded nowhere. Takes a place in the rate limit all the same. */
	refusal(caller: Caller, action: Action, content?: ContentFacts): Refusal | undefined {
		const own = caller.kind === "plugin" ? this.#policy.plugin(caller.id) : undefined;
		const facts: Facts = { policy: this.#policy, caller, own, action, content, rate: this.#rate, rule: this.#content };
		return firstRefusal(facts);
	}

	/**
	 * For streams that were admitted once: throws PERMISSION_REVOKED where the action would no longer be admitted. Not
	 * recorded as a denial and outside the rate limit.
	 */
	recheck(caller: Caller, action: Action): void {
		const refusal = this.#refusalByRight(caller, action);
		if (refusal !== undefined) throw revoked(refusal.error);
	}

	/** Whether the caller has the right to the action, for lists of what it may use. Recorded nowhere, outside the rate limit. */
	hasRight(caller: Caller, action: Action): boolean {
		return this.#refusalByRight(caller, action) === undefined;
	}

	#refusalByRight(caller: Caller, action: Action): Refusal | undefined {
		const own = caller.kind === "plugin" ? this.#policy.plugin(caller.id) : undefined;
		return firstRefusal({ policy: this.#policy, caller, own, action, content: undefined, rate: ADMIT, rule: ADMIT });
	}

	/** Whom the caller reaches with what it was admitted to do by `check`, asked recipient by recipient. */
	reach(caller: Caller, action: TopicAction, requestId?: string): Reach {
		return new Reach({
			refusal: ({ recipient, denial, redirected }) => {
				const topic = redirected && action.kind === "publish" ? action.topic : undefined;
				return this.refusal(caller, { kind: "reach", recipient, denial, topic } satisfies ReachAction);
			},
			record: (reason, details) =>
				this.#audit.record({
					event: denialEventOf(action),
					actor: principalOf(caller),
					target: targetOf(action),
					reason,
					details: { action: action.kind, ...details },
					requestId,
				}),
		});
	}

	/** Whether the grants of a plugin admit that it gets what is published to the topic. */
	mayReceiveTopic(pluginId: string, topic: Subject): boolean {
		return this.#policy.plugin(pluginId).grants.subscribeTopics.admits(topic.canonical);
	}

	/** What the content rules refuse in content that changed after its sender was judged. */
	contentProblem(content: ContentFacts): HubError | undefined {
		return this.#content(content);
	}

	/** Whether the caller's grants admit the event type: the part of the `emit` check that does not look at the content. */
	mayEmit(caller: Caller, subject: Subject): boolean {
		if (caller.kind !== "plugin") return false;
		const own = this.#policy.plugin(caller.id);
		return !own.disabled && own.grants.emit.admits(subject.canonical);
	}
}
