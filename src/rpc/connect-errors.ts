import { Code, ConnectError } from "@connectrpc/connect";
import type { UniversalServerResponse } from "@connectrpc/connect/protocol";
import { codeFromString, codeToHttpStatus, errorToJsonBytes } from "@connectrpc/connect/protocol-connect";
import { HubError } from "../hub-error.ts";
import type { Status } from "./error-codes.ts";
import { tooLarge, unknownFlags } from "./frame-reader.ts";
import { notTheMessage } from "./message-codec.ts";
import type { MountedMethod } from "./method-table.ts";
import { truncated } from "./request-stream.ts";

/** A failure in the Connect library's terms, which spells it for whichever protocol the peer speaks. */
export function toConnectError(status: Status): ConnectError {
	const error = new ConnectError(status.message, status.code);
	error.details = status.details.map(({ desc, value }) => ({ desc, value }));
	return error;
}

/**
 * What the library says about a request it cannot read, in the hub's terms, so that both lanes give the same answer to
 * the same fault. What only this lane can meet, such as a fault in JSON, keeps the library's words.
 */
export function fromLibrary(mounted: MountedMethod, code: Code, message: string): HubError {
	if (code === Code.ResourceExhausted) return tooLarge(mounted.maxRequestBytes);
	if (message.startsWith("unknown compression")) return new HubError("METHOD_UNKNOWN", message);
	if (message.startsWith("parse binary")) return notTheMessage(mounted);
	if (message.startsWith("protocol error: incomplete") || message.startsWith("protocol error: promised")) {
		return truncated();
	}
	if (message.startsWith("received compressed")) return unknownFlags(1);
	return new HubError("MALFORMED_REQUEST", message);
}

/**
 * The body of a failed unary Connect call is one JSON document. Where the library wrote it by itself it has no details:
 * `translate` gives the status that is sent instead.
 */
export async function describeUnaryError(
	answer: UniversalServerResponse,
	translate: (code: Code, message: string) => Status,
): Promise<UniversalServerResponse> {
	const chunks: Uint8Array[] = [];
	for await (const chunk of answer.body ?? []) chunks.push(chunk);
	const bytes = Buffer.concat(chunks);
	let given: { code?: unknown; message?: unknown; details?: unknown };
	try {
		given = JSON.parse(bytes.toString("utf8"));
	} catch {
		return { ...answer, body: once(bytes) };
	}
	const code = typeof given.code === "string" ? codeFromString(given.code) : undefined;
	if (given.details !== undefined || code === undefined) return { ...answer, body: once(bytes) };
	const status = translate(code, typeof given.message === "string" ? given.message : "");
	const body = errorToJsonBytes(toConnectError(status), undefined);
	const header = new Headers(answer.header);
	header.set("content-length", String(body.byteLength));
	return { ...answer, status: codeToHttpStatus(status.code), header, body: once(body) };
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
	yield bytes;
}
