import { create, type DescMessage, fromBinary, isMessage, type Message, toBinary } from "@bufbuild/protobuf";
import { HubError } from "../hub-error.ts";
import { isPlain } from "../wire/plain-wire.ts";
import { Encoded } from "./call.ts";
import type { MountedMethod } from "./method-table.ts";

/** What a handler of `mounted` gets for a request in wire form. Throws MALFORMED_REQUEST. */
export function decodeRequest(mounted: MountedMethod, bytes: Uint8Array): Message | Uint8Array {
	const { input } = mounted.descriptor;
	if (mounted.raw !== undefined && (mounted.raw.judgesWire || isPlain(input, bytes))) return bytes;
	try {
		const message = fromBinary(input, bytes);
		return mounted.raw === undefined ? message : toBinary(input, message);
	} catch (cause) {
		throw notTheMessage(mounted, cause);
	}
}

/** The wire form of what a handler answered. */
export function encodeResponse(mounted: MountedMethod, response: unknown): Encoded | Uint8Array {
	if (response instanceof Encoded) return response;
	return toBinary(mounted.descriptor.output, asMessage(mounted.descriptor.output, response));
}

/** The message that a handler answered, parsed where it answered in wire form. */
export function responseMessage(mounted: MountedMethod, response: unknown): Message {
	const { output } = mounted.descriptor;
	if (!(response instanceof Encoded)) return asMessage(output, response);
	const { parts } = response;
	return fromBinary(output, parts.length === 1 ? parts[0]! : Buffer.concat(parts, response.byteLength));
}

function asMessage(schema: DescMessage, value: unknown): Message {
	return isMessage(value, schema) ? value : create(schema, value as Record<string, unknown>);
}

/** The refusal of bytes that are not a request of `mounted`. */
export function notTheMessage(mounted: MountedMethod, cause?: unknown): HubError {
	return new HubError("MALFORMED_REQUEST", `the request is not a ${mounted.descriptor.input.typeName}`, { cause });
}
