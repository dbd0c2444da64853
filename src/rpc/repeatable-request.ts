import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { HubError } from "../hub-error.ts";
import type { RepeatableRequest } from "../idempotency/first-answers.ts";
import { requestDigest } from "../idempotency/request-digest.ts";
import { principalOf } from "../security/caller.ts";
import type { Call } from "./call.ts";

export const MAX_REQUEST_ID = 128;

/** What makes a repeat of the request harmless; undefined where it has no request id. Refuses one that is none. */
export function repeatable<D extends DescMessage>(
	call: Call,
	method: string,
	schema: D,
	request: MessageShape<D> & { readonly requestId: string },
): RepeatableRequest | undefined {
	const requestId = bounded(request.requestId, MAX_REQUEST_ID, "request_id");
	if (requestId === "") return undefined;
	return { principal: principalOf(call.caller), method, requestId, digest: requestDigest(schema, request) };
}

/** Refuses text of more than `max` UTF-16 units, and what is not well formed. */
export function bounded(text: string, max: number, field: string): string {
	if (text.length > max) throw HubError.field(field, `has ${text.length} characters; at most ${max} are allowed`);
	if (!text.isWellFormed()) throw HubError.field(field, "is not well-formed text");
	return text;
}
