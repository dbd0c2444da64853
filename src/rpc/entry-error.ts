import type { MessageInitShape } from "@bufbuild/protobuf";
import type { EntryErrorSchema } from "#gen/qirvo/hub/v1/errors_pb.js";
import { HubError } from "../hub-error.ts";
import { toStatus } from "./error-codes.ts";

/** What a stream says of an entry that failed, in the same words as the status of a unary call. */
export function entryErrorOf(error: unknown, requestId: string): MessageInitShape<typeof EntryErrorSchema> {
	const { code, reason, message } = toStatus(error, requestId);
	const metadata = error instanceof HubError ? { ...error.metadata } : {};
	return { code, reason, message, metadata };
}
