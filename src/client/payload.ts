import type { Payload } from "#gen/qirvo/hub/v1/payload_pb.js";

/** What an event or message carries: a JSON value, bytes, or undefined for nothing. Its shape is between the plugins. */
// biome-ignore lint/suspicious/noExplicitAny: the shape of a payload is known to the plugins alone
export type Data = any;

export interface PayloadOptions {
	/** The media type. Default: `application/json`, or `application/octet-stream` for bytes. */
	readonly contentType?: string;
	/** The URI of the schema that the data follows. */
	readonly schema?: string;
}

/** Bytes go as they are, anything else as JSON. Throws a TypeError on what JSON cannot say, such as a function or a bigint. */
export function toPayload(data: Data, options?: PayloadOptions): Payload | undefined {
	if (data === undefined && options?.schema === undefined && options?.contentType === undefined) return undefined;
	// As `create` makes it, which costs more than all else here.
	const payload: Payload = {
		$typeName: "qirvo.hub.v1.Payload",
		body: { case: undefined },
		contentType: options?.contentType ?? "",
		schema: options?.schema ?? "",
	};
	if (data instanceof Uint8Array) {
		payload.body = { case: "binary", value: data };
	} else if (data !== undefined) {
		payload.body = { case: "json", value: toJson(data) };
	}
	return payload;
}

/** Data as JSON text. Throws a TypeError on what JSON cannot say. */
export function toJson(data: Data): string {
	const json: string | undefined = JSON.stringify(data);
	if (json === undefined) throw new TypeError(`a ${typeof data} cannot be sent as JSON`);
	return json;
}

/** The JSON value or the bytes. Throws a SyntaxError where the sender's text is not JSON. */
export function dataOf(payload: Payload | undefined): Data {
	const body = payload?.body;
	if (body?.case === "json") return JSON.parse(body.value);
	return body?.case === "binary" ? body.value : undefined;
}

/** About how many bytes the payload takes; for bounds of buffers. */
export function payloadSize(payload: Payload | undefined): number {
	return payload?.body.value?.length ?? 0;
}
