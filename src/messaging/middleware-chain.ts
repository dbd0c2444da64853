import type { Clock, IdSource } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import { type Deadline, DeadlineQueue } from "../streams/deadline-queue.ts";
import { FairShares } from "../streams/fair-shares.ts";
import { parseSubject } from "../subjects/subject.ts";
import { WireWriter } from "../wire/wire-writer.ts";
import { changeContent } from "./changed-content.ts";
import { compareInspectors, type Inspector, type Verdict } from "./inspector.ts";
import type { MessageContent } from "./message-content.ts";
import type { MessageDraft } from "./message-draft.ts";
import { parseReply } from "./reply-content.ts";
import { stampMessage, withAttribute } from "./stamped-message.ts";

export interface MiddlewareChainOptions {
	readonly clock: Clock;
	readonly ids: IdSource;
	/** Refuses content by returning an error: what every sender's content is held to. */
	readonly checkContent: (content: MessageContent) => HubError | undefined;
}

/** A message that was admitted and is to be looked at. */
export interface InspectedMessage {
	readonly draft: MessageDraft;
	readonly source: string;
	readonly recipient: string;
	/** Of a request: when its sender stops waiting, in `Clock.monotonic()` milliseconds. */
	readonly deadline: number | undefined;
}

/** What became of it. */
export type InspectionResult =
	| { readonly kind: "pass"; readonly draft: MessageDraft }
	/** `content` is a checked `ReplyContent`; `source` the middleware that answered. */
	| { readonly kind: "answer"; readonly id: string; readonly content: Uint8Array; readonly source: string };

/** What a one-way message goes on as: nobody can answer it. */
export function passedOn(result: InspectionResult): MessageDraft {
	if (result.kind === "pass") return result.draft;
	throw new Error("only a request can be answered");
}

/** What inspectors did since the start. For metrics. */
export class MiddlewareCounters {
	passed = 0;
	changed = 0;
	answered = 0;
	refused = 0;
	/** No verdict within the inspector's deadline. */
	late = 0;
	/** No verdict for another reason, or one that could not be carried out. */
	failed = 0;
}

/** Bytes that messages which are being looked at may take, of all senders. */
const MAX_INSPECTED_BYTES = 64 * 1024 * 1024;

/** What each counts for beside its content, so that no more than 10,000 are looked at however small they are. */
const INSPECTION_BYTES = 6_710;
const FULL_PAUSE_MS = 100;

/**
 * Everyone who looks at messages on their way, in order. Several messages are looked at at once, and each sender's go on to each
 * recipient in the order in which they came. Costs nothing where nobody looks. What is being looked at is bounded, and of that
 * each sender has its fair share: one that sends what nobody judges in time keeps no room from the others.
 */
export class MiddlewareChain implements Disposable {
	readonly counters = new MiddlewareCounters();
	readonly #options: MiddlewareChainOptions;
	readonly #deadlines: DeadlineQueue;
	#inspectors: readonly Inspector[] = [];
	/** The last message of a sender to a recipient that is being looked at. */
	readonly #last = new Map<string, Promise<void>>();
	readonly #shares = new FairShares(MAX_INSPECTED_BYTES);
	#inspected = 0;

	constructor(options: MiddlewareChainOptions) {
		this.#options = options;
		this.#deadlines = new DeadlineQueue(options.clock);
	}

	/** Messages that are being looked at. */
	get size(): number {
		return this.#inspected;
	}

	/** Inspectors. */
	get length(): number {
		return this.#inspectors.length;
	}

	/** Asks the inspector about messages from now on, until the result is disposed. */
	add(inspector: Inspector): Disposable {
		this.#inspectors = [...this.#inspectors, inspector].toSorted(compareInspectors);
		return {
			[Symbol.dispose]: () => {
				this.#inspectors = this.#inspectors.filter((one) => one !== inspector);
			},
		};
	}

	/**
	 * Undefined: nobody looks at the message, and it need not wait. Rejects with MESSAGE_REFUSED, MIDDLEWARE_UNAVAILABLE,
	 * DEADLINE_EXCEEDED; throws LIMIT_EXCEEDED where too many of its sender's are being looked at. What is done with the result at once is done
	 * before the sender's next message to the recipient goes on.
	 */
	inspect(message: InspectedMessage): Promise<InspectionResult> | undefined {
		if (this.#inspectors.length === 0 && this.#last.size === 0) return undefined;
		const { draft, source, recipient } = message;
		const { canonical } = parseSubject(draft.type, "type");
		const asked = this.#inspectors.filter((inspector) => inspector.admits(canonical, source, recipient));
		const way = `${source}\n${recipient}`;
		const ahead = this.#last.get(way);
		if (asked.length === 0 && ahead === undefined) return undefined;
		// It is there as its sender gave it, and as it is shown.
		const bytes = INSPECTION_BYTES + 2 * draft.wire.byteLength;
		if (!this.#shares.hasRoom(source, bytes)) throw tooMany(source);
		this.#shares.take(source, bytes);
		this.#inspected++;
		const own = asked.length === 0 ? Promise.resolve({ kind: "pass", draft } as const) : this.#run(asked, message);
		// One that is refused while it waits for its turn is told in its turn.
		own.catch(() => {});
		const turn = ahead === undefined ? own : ahead.then(() => own);
		const done = () => {
			this.#inspected--;
			this.#shares.giveBack(source, bytes);
			if (this.#last.get(way) === last) this.#last.delete(way);
		};
		const last: Promise<void> = turn.then(done, done);
		this.#last.set(way, last);
		return turn;
	}

	/** Waits no longer for any verdict. */
	[Symbol.dispose](): void {
		this.#inspectors = [];
		this.#deadlines[Symbol.dispose]();
	}

	async #run(inspectors: readonly Inspector[], message: InspectedMessage): Promise<InspectionResult> {
		const { source, recipient, deadline } = message;
		let draft = this.#named(message.draft);
		const changedBy: string[] = [];
		for (const inspector of inspectors) {
			const current = stamped(draft, changedBy);
			const requiresResponse = deadline !== undefined;
			const hubTime = this.#options.clock.now();
			const shown = stampMessage(current, { id: draft.id, source, recipient, hubTime, requiresResponse });
			const verdict = await this.#ask(inspector, shown, message);
			try {
				switch (verdict?.kind) {
					case "pass":
						this.counters.passed++;
						continue;
					case "change":
						draft = this.#changed(draft, verdict);
						changedBy.push(inspector.name);
						this.counters.changed++;
						continue;
					case "answer":
						this.#checkAnswer(verdict.reply, requiresResponse);
						this.counters.answered++;
						return { kind: "answer", id: draft.id, content: verdict.reply, source: inspector.name };
					case "refuse":
						this.counters.refused++;
						break;
				}
			} catch (error) {
				if (!(error instanceof HubError)) throw error;
				this.counters.failed++;
				if (inspector.failsOpen) continue;
				throw unavailable(inspector, error);
			}
			if (verdict !== undefined) throw refused(inspector, verdict.reason);
			if (!inspector.failsOpen) throw unavailable(inspector);
		}
		return { kind: "pass", draft: stamped(draft, changedBy) };
	}

	/** Undefined: there is no verdict, which was counted. Refuses with DEADLINE_EXCEEDED where the request's time is over. */
	#ask(inspector: Inspector, shown: Uint8Array, message: InspectedMessage): Promise<Verdict | undefined> {
		const { source: from, recipient: to, deadline: requestEnd = Number.POSITIVE_INFINITY } = message;
		const ownEnd = this.#options.clock.monotonic() + inspector.deadlineMs;
		const { promise, resolve, reject } = Promise.withResolvers<Verdict | undefined>();
		let settled = false;
		const settle = (verdict: Verdict | undefined) => {
			if (settled) return;
			settled = true;
			this.#deadlines.remove(due);
			if (verdict === undefined) this.counters.failed++;
			resolve(verdict);
		};
		const due: Deadline = {
			at: Math.min(ownEnd, requestEnd),
			slot: -1,
			run: () => {
				settled = true;
				giveUp();
				if (requestEnd <= ownEnd) {
					reject(new HubError("DEADLINE_EXCEEDED", "no reply came in time"));
					return;
				}
				this.counters.late++;
				resolve(undefined);
			},
		};
		this.#deadlines.add(due);
		const giveUp = inspector.inspect(shown, { from, to }, settle);
		return promise;
	}

	/** Inspectors are shown the id that the message will have. */
	#named(draft: MessageDraft): MessageDraft {
		if (draft.id !== "") return draft;
		const id = this.#options.ids.next();
		const writer = new WireWriter(draft.wire.byteLength + id.length + 16);
		writer.append(draft.wire);
		writer.string(1, id);
		return { ...draft, id, wire: writer.finish() };
	}

	#changed(draft: MessageDraft, verdict: Extract<Verdict, { kind: "change" }>): MessageDraft {
		const changed = changeContent(draft, verdict);
		const problem = this.#options.checkContent(changed.content);
		if (problem !== undefined) throw problem;
		return changed;
	}

	#checkAnswer(reply: Uint8Array, isRequest: boolean): void {
		if (!isRequest) throw new HubError("INVALID_FIELD", "a one-way message cannot be answered");
		for (const content of parseReply(reply, "answer").contents) {
			const problem = this.#options.checkContent(content);
			if (problem !== undefined) throw problem;
		}
	}
}

/** The message with the names of those who changed it. */
function stamped(draft: MessageDraft, changedBy: readonly string[]): MessageDraft {
	if (changedBy.length === 0) return draft;
	return { ...draft, wire: withAttribute(draft.wire, "hub-middleware", changedBy.join(",")) };
}

function refused({ name }: Inspector, reason: string): HubError {
	return new HubError("MESSAGE_REFUSED", reason === "" ? `"${name}" refuses the message` : reason, {
		metadata: { middleware: name },
	});
}

function unavailable({ name }: Inspector, cause?: HubError): HubError {
	return new HubError("MIDDLEWARE_UNAVAILABLE", `"${name}" gave no verdict that holds, and no message passes without`, {
		metadata: { middleware: name },
		retryAfterMs: FULL_PAUSE_MS,
		cause,
	});
}

function tooMany(source: string): HubError {
	return new HubError("LIMIT_EXCEEDED", "middleware looks at too many messages of this plugin already", {
		metadata: { limit: String(MAX_INSPECTED_BYTES) },
		quota: { subject: `plugin:${source}`, description: "its share of what middleware looks at" },
		retryAfterMs: FULL_PAUSE_MS,
	});
}
