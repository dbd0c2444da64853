import { HubError } from "../hub-error.ts";
import type { AcceptanceListener, AcceptedMessage } from "../messaging/accepted-message.ts";
import { type InspectionResult, type MiddlewareChain, passedOn } from "../messaging/middleware-chain.ts";
import { makeMirrors } from "../messaging/mirror-copies.ts";
import type { ReplyOutcome, SentRequest } from "../messaging/pending-replies.ts";
import type { Router } from "../messaging/router.ts";
import type { AuditRecorder } from "../security/audit-entry.ts";
import { principalOf } from "../security/caller.ts";
import type { Guard } from "../security/guard.ts";
import type { Call } from "./call.ts";
import type { AdmittedMessage, MessageDurability, MessageIntake } from "./message-intake.ts";
import type { SendView } from "./send-frames.ts";

export interface MessageDispatchDeps {
	readonly intake: MessageIntake;
	readonly router: Router;
	readonly middleware: MiddlewareChain;
	readonly audit: AuditRecorder;
	readonly guard: Pick<Guard, "refusal">;
}

/** Told once how a request ended, with its id. */
export type OnOutcome = (id: string, outcome: ReplyOutcome) => void;

/** The way of a message for one from its frame to the router, whichever RPC it came by. Those for many go it copy by copy. */
export class MessageDispatch {
	readonly #intake: MessageIntake;
	readonly #router: Router;
	readonly #guard: Pick<Guard, "refusal">;
	readonly #middleware: MiddlewareChain;
	readonly #audit: AuditRecorder;

	constructor(deps: MessageDispatchDeps) {
		this.#intake = deps.intake;
		this.#router = deps.router;
		this.#guard = deps.guard;
		this.#middleware = deps.middleware;
		this.#audit = deps.audit;
	}

	/**
	 * Throws what refuses the message, or tells it to `told`, which is told once what became of it. `prefix` is the path of what
	 * holds it, empty or ending in a dot.
	 */
	send(call: Call, view: SendView, prefix: string, durability: MessageDurability, told: AcceptanceListener): void {
		const admitted = this.#intake.admit(call, view, prefix, durability);
		const inspection = this.#inspect(admitted, undefined);
		if (inspection === undefined) {
			this.#forward(call, admitted, durability, told);
			return;
		}
		// What is done in the first reaction keeps the sender's order.
		inspection
			.then(
				(result) => this.#forward(call, { ...admitted, draft: passedOn(result) }, durability, told),
				(error: unknown) => {
					this.#record(call, admitted.recipient, error);
					throw error;
				},
			)
			.catch((error: unknown) => told(undefined, error));
	}

	/** Throws what refuses the request. `onOutcome` is told once how it ended, never before this returns. */
	request(call: Call, view: SendView, prefix: string, deadline: number, onOutcome: OnOutcome): SentRequest {
		return this.ask(call, this.#intake.admit(call, view, prefix, "transient"), deadline, onOutcome);
	}

	/** The same once it is admitted. `refused` is told what kept a request that middleware looked at from being asked. */
	ask(
		call: Call,
		admitted: AdmittedMessage,
		deadline: number,
		onOutcome: OnOutcome,
		refused: (error: unknown) => void = (error) => this.#record(call, admitted.recipient, error),
	): SentRequest {
		const inspection = this.#inspect(admitted, deadline);
		if (inspection === undefined) return this.#ask(call, admitted, deadline, onOutcome);
		let settled = false;
		let pending: SentRequest | undefined;
		const goOn = (result: InspectionResult) => {
			if (settled) return;
			if (result.kind === "pass") {
				pending = this.#ask(call, { ...admitted, draft: result.draft }, deadline, onOutcome);
				return;
			}
			settled = true;
			onOutcome(result.id, { ...result, kind: "reply" });
		};
		const inspected = inspection.then(goOn).catch((error: unknown) => {
			refused(error);
			if (settled) return;
			settled = true;
			onOutcome("", { kind: "failed", error: asHubError(error) });
		});
		return {
			inspected,
			get settled() {
				return pending?.settled ?? settled;
			},
			cancel(reason) {
				settled = true;
				pending?.cancel(reason);
			},
		};
	}

	#forward(call: Call, admitted: AdmittedMessage, durability: MessageDurability, told: AcceptanceListener): void {
		const { draft, source, recipient } = admitted;
		if (durability === "transient") {
			const accepted = this.#router.send(draft, source, recipient);
			this.#mirror(call, admitted, accepted);
			told(accepted);
			return;
		}
		if (admitted.mirrors.length === 0) {
			this.#router.sendDurable(draft, source, recipient, told);
			return;
		}
		this.#router.sendDurable(draft, source, recipient, (accepted, error) => {
			if (accepted !== undefined) this.#mirror(call, admitted, accepted);
			told(accepted, error);
		});
	}

	#ask(call: Call, admitted: AdmittedMessage, deadline: number, onOutcome: OnOutcome): SentRequest {
		const { draft, source, recipient } = admitted;
		const { id, pending } = this.#router.request(draft, source, recipient, deadline, (outcome) =>
			onOutcome(id, outcome),
		);
		this.#mirror(call, admitted, { id, duplicate: false });
		return pending;
	}

	#inspect({ draft, source, recipient }: AdmittedMessage, deadline: number | undefined) {
		return this.#middleware.inspect({ draft, source, recipient, deadline });
	}

	/** A refusal by a middleware is recorded as one by the guard is. */
	#record({ caller, requestId }: Call, recipient: string, error: unknown): void {
		if (!(error instanceof HubError) || error.reason !== "MESSAGE_REFUSED") return;
		this.#audit.record({
			event: "message_denied",
			actor: principalOf(caller),
			target: `plugin:${recipient}`,
			reason: "message_refused",
			details: { ...error.metadata, message: error.message },
			requestId,
		});
	}

	#mirror(
		{ caller }: Call,
		{ draft, source, recipient, mirrors, journeys }: AdmittedMessage,
		{ id, duplicate }: Pick<AcceptedMessage, "id" | "duplicate">,
	): void {
		if (duplicate) return;
		const due = journeys?.takeMirrors(recipient) ?? mirrors;
		if (due.length === 0) return;
		makeMirrors(this.#router, { draft, id, source }, due, (mirror) => {
			return this.#guard.refusal(caller, { kind: "mirror", recipient: mirror }) === undefined;
		});
	}
}

function asHubError(error: unknown): HubError {
	return error instanceof HubError ? error : new HubError("INTERNAL", "internal error", { cause: error });
}
