import type { MessageInitShape } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import {
	type Entry,
	type FailedCheck,
	FailedChecksSchema,
	type SetOperationSchema,
} from "#gen/qirvo/hub/v1/entries_pb.js";
import type { Payload, PayloadSchema } from "#gen/qirvo/hub/v1/payload_pb.js";

type SetInit = MessageInitShape<typeof SetOperationSchema>;

/** A payload with this as its JSON. */
export function json(value: unknown): MessageInitShape<typeof PayloadSchema> {
	return { body: { case: "json", value: JSON.stringify(value) } };
}

/** A payload of these bytes. */
export function binary(value: Uint8Array): MessageInitShape<typeof PayloadSchema> {
	return { body: { case: "binary", value: new Uint8Array(value) } };
}

/** What the payload's JSON says. */
export function parsed(payload: Payload | undefined): unknown {
	return payload?.body.case === "json" ? JSON.parse(payload.body.value) : undefined;
}

/** A `set` of a JSON value. `more` is what else the operation says. */
export function setOf(store: string, key: string, value: unknown, more: object = {}): SetInit {
	return { store, key, value: json(value), ...more };
}

/** What a write expects. */
export const expects = Object.freeze({
	absent: { state: { case: "absent", value: true } },
	exists: { state: { case: "exists", value: true } },
	any: { state: { case: "any", value: true } },
	revision: (value: bigint) => ({ state: { case: "revision", value } }) as const,
} as const);

/** Key to value, of JSON entries. */
export function contents(entries: readonly Entry[]): Record<string, unknown> {
	return Object.fromEntries(entries.map(({ key, value }) => [key, parsed(value)]));
}

/** The checks that a call failed for; fails where it did not fail. */
export async function failedChecksOf(call: Promise<unknown>): Promise<readonly FailedCheck[]> {
	const error = await call.then(
		() => undefined,
		(error: unknown) => ConnectError.from(error),
	);
	if (error === undefined) throw new Error("the call did not fail");
	return error.findDetails(FailedChecksSchema).flatMap(({ checks }) => checks);
}
