import { fromBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Event, EventSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import {
	type DeleteDeadLettersRequest,
	type GetDeadLetterRequest,
	type ListDeadLettersRequest,
	MessageSchema,
	type RedriveDeadLettersRequest,
} from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import type { DeadLetter, DeadLetters } from "../dead-letters/dead-letters.ts";
import { type DeadEvent, deadEventOf } from "../events/durable/dead-event.ts";
import { HubError } from "../hub-error.ts";
import type { Router } from "../messaging/router.ts";
import type { AuditRecorder } from "../security/audit-entry.ts";
import { principalOf } from "../security/caller.ts";
import type { Call } from "./call.ts";
import { entryErrorOf } from "./entry-error.ts";
import { decodePageToken, encodePageToken, pageSizeOf } from "./page-token.ts";
import { ownerOf, scopeOf } from "./plugin-scope.ts";

const PAGE_SIZES = { usual: 50, most: 1000 };
const MAX_SELECTED = 1000;
const MAX_ID_LENGTH = 64;
const MAX_ORIGIN_LENGTH = 256;

type Decision = Parameters<DeadLetterAudit["decided"]>[0]["event"];
type DecisionRequest = RedriveDeadLettersRequest | DeleteDeadLettersRequest;

/** Which letters a request is about. */
interface Selection {
	readonly pluginId: string;
	readonly ids: readonly string[];
	readonly all: boolean;
	readonly origin: string;
}

/** Records what an operator decided about the letters of a plugin, once it is stored. Takes refusals as well. */
export interface DeadLetterAudit extends AuditRecorder {
	decided(entry: {
		readonly event: "dead_letters_redriven" | "dead_letters_deleted";
		readonly actor: string;
		readonly target: string;
		readonly details: Readonly<Record<string, string>>;
		readonly requestId: string;
	}): Promise<void>;
}

export interface DeadLetterDeps {
	readonly audit: DeadLetterAudit;
	/** Puts messages back. */
	readonly router: Router;
	readonly durable: {
		/** Puts an event back. */
		redrive(letter: DeadLetter): Promise<void>;
	};
}

/** The dead letters of MessagingService, messages and events: a plugin's own, or for an operator any plugin's. */
export function deadLetterCalls({ router, durable, audit }: DeadLetterDeps) {
	const { letters } = router;
	const owned = { audit, things: "dead letters" };

	/** What plugins do with their own letters is theirs, and not recorded. */
	async function decide(
		event: Decision,
		asked: DecisionRequest,
		call: Call,
		act: (owner: string, id: string) => Promise<void>,
	) {
		const selection = selectionOf(asked, ownerOf(owned, call, asked.pluginId));
		const outcome = await forEach(letters, selection, call, act);
		if (call.caller.kind === "operator" && outcome.ids.length > 0) {
			await audit.decided({
				event,
				actor: principalOf(call.caller),
				target: `plugin:${selection.pluginId}`,
				details: { count: String(outcome.ids.length), origin: selection.origin, ids: outcome.ids.join(",") },
				requestId: call.requestId,
			});
		}
		return outcome;
	}

	return {
		async listDeadLetters(request: ListDeadLettersRequest, call: Call) {
			const pluginId = scopeOf(owned, call, request.pluginId);
			const size = pageSizeOf(request.pageSize, PAGE_SIZES);
			const origin = originOf(request.origin);
			const query = ["dead-letters", pluginId, origin];
			const page = letters.list(pluginId, size, decodePageToken(query, request.pageToken) ?? "", origin);
			return {
				deadLetters: page.letters.map((letter) => describe(letter, false)),
				nextPageToken: encodePageToken(query, page.next || undefined),
			};
		},

		async getDeadLetter(request: GetDeadLetterRequest, call: Call) {
			const pluginId = ownerOf(owned, call, request.pluginId);
			return { deadLetter: describe(letters.get(pluginId, idOf(request.id, "id")), true) };
		},

		redriveDeadLetters(request: RedriveDeadLettersRequest, call: Call) {
			const redrive = (pluginId: string, id: string) => {
				const letter = letters.get(pluginId, id);
				return deadEventOf(letter) === undefined ? router.redrive(letter) : durable.redrive(letter);
			};
			return decide("dead_letters_redriven", request, call, redrive);
		},

		deleteDeadLetters(request: DeleteDeadLettersRequest, call: Call) {
			const remove = (pluginId: string, id: string) => letters.delete(pluginId, id);
			return decide("dead_letters_deleted", request, call, remove);
		},
	};
}

/** Begins them in their order, so that what is put back keeps it. */
async function forEach(
	letters: DeadLetters,
	selection: Selection,
	{ requestId }: Call,
	act: (pluginId: string, id: string) => Promise<void>,
) {
	const { pluginId, origin, all } = selection;
	const { ids, more } = all ? letters.oldest(pluginId, MAX_SELECTED, origin) : { ids: selection.ids, more: false };
	const outcomes = await Promise.allSettled(ids.map(async (id) => act(pluginId, id)));
	const done: string[] = [];
	const failures: { id: string; error: ReturnType<typeof entryErrorOf> }[] = [];
	for (const [index, outcome] of outcomes.entries()) {
		const id = ids[index]!;
		if (outcome.status === "fulfilled") done.push(id);
		else failures.push({ id, error: entryErrorOf(outcome.reason, requestId) });
	}
	return { ids: done, failures, more };
}

function selectionOf(request: DecisionRequest, pluginId: string): Selection {
	const { ids, all } = request;
	if (all === ids.length > 0) throw HubError.field("ids", "either `ids` or `all` must be set");
	if (ids.length > MAX_SELECTED) throw HubError.field("ids", `has more than ${MAX_SELECTED} entries`);
	const origin = originOf(request.origin);
	if (origin !== "" && !all) throw HubError.field("origin", "goes with `all` only");
	return { pluginId, ids: ids.map((id, index) => idOf(id, `ids[${index}]`)), all, origin };
}

function originOf(origin: string): string {
	if (origin.length <= MAX_ORIGIN_LENGTH) return origin;
	throw HubError.field("origin", `has more than ${MAX_ORIGIN_LENGTH} characters`);
}

function idOf(id: string, field: string): string {
	if (id === "") throw HubError.field(field, "is required");
	if (id.length > MAX_ID_LENGTH) throw HubError.field(field, `has more than ${MAX_ID_LENGTH} characters`);
	return id;
}

function describe(letter: DeadLetter, withPayload: boolean) {
	const { id, pluginId, origin, reason, time, bytes, attempts } = letter;
	const facts = { id, pluginId, origin, reason, time: timestampFromMs(time), bytes: BigInt(bytes) };
	const dead = deadEventOf(letter);
	if (dead !== undefined) return { ...facts, event: describeEvent(dead, attempts, withPayload) };
	const message = fromBinary(MessageSchema, letter.item);
	message.attempt = attempts;
	if (!withPayload) message.payload = undefined;
	return { ...facts, message };
}

function describeEvent(dead: DeadEvent, attempts: number, withPayload: boolean) {
	// Fields that only its publisher knows are left out: here they would be read as others.
	const { $typeName: _, payload, ...shared }: Event = fromBinary(EventSchema, dead.event, { readUnknownFields: false });
	const { epoch, subscription } = dead;
	return { ...shared, epoch, subscription, attempts, ...(withPayload && payload !== undefined && { payload }) };
}
