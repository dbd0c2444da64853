import { attributePath, CONTENT_LIMITS } from "../content/content-limits.ts";
import { checkJson } from "../content/json-structure.ts";
import { HubError } from "../hub-error.ts";

/** What the content check needs to know. Whoever holds wire bytes fills it without decoding the rest. */
export interface ContentFacts {
	/** Payload and attributes (keys and values) together, in bytes. */
	readonly bytes: number;
	/** The payload, where it is JSON: UTF-8 bytes or text. */
	readonly json?: Uint8Array | string;
	readonly attributes?: Readonly<Record<string, string>>;
	readonly contentType?: string;
	readonly schema?: string;
}

/** Refuses content by returning an error; undefined admits it. */
export type ContentRule = (content: ContentFacts) => HubError | undefined;

/** Size, structure and form. Allocates nothing where nothing is wrong. */
export const checkContent: ContentRule = (content) => {
	if (content.bytes > CONTENT_LIMITS.contentBytes) {
		return refuse("payload", `payload and attributes have ${content.bytes} bytes`, CONTENT_LIMITS.contentBytes);
	}
	if (exceeds(content.contentType, CONTENT_LIMITS.contentTypeBytes)) {
		return refuse("payload.content_type", "is too long", CONTENT_LIMITS.contentTypeBytes);
	}
	if (exceeds(content.schema, CONTENT_LIMITS.schemaBytes)) {
		return refuse("payload.schema", "is too long", CONTENT_LIMITS.schemaBytes);
	}
	const attributes = content.attributes === undefined ? undefined : checkAttributes(content.attributes);
	if (attributes !== undefined || content.json === undefined) return attributes;
	const structure = checkJson(content.json);
	return structure && refuse("payload.json", `${structure.problem} (at byte ${structure.offset})`);
};

function checkAttributes(attributes: Readonly<Record<string, string>>): HubError | undefined {
	let count = 0;
	for (const key in attributes) {
		if (++count > CONTENT_LIMITS.attributes)
			return refuse("attributes", "there are too many", CONTENT_LIMITS.attributes);
		if (key === "") return refuse("attributes", "a key is empty");
		if (exceeds(key, CONTENT_LIMITS.attributeKeyBytes)) {
			return refuse("attributes", "a key is too long", CONTENT_LIMITS.attributeKeyBytes);
		}
		if (exceeds(attributes[key], CONTENT_LIMITS.attributeValueBytes)) {
			return refuse(attributePath(key), "the value is too long", CONTENT_LIMITS.attributeValueBytes);
		}
	}
	return undefined;
}

/** Whether the text has more than `bytes` bytes in UTF-8, of which a UTF-16 unit makes three at most. */
function exceeds(text: string | undefined, bytes: number): boolean {
	return text !== undefined && text.length * 3 > bytes && Buffer.byteLength(text) > bytes;
}

function refuse(field: string, problem: string, limit?: number): HubError {
	const description = limit === undefined ? problem : `${problem}; the limit is ${limit}`;
	return new HubError("INVALID_CONTENT", `${field}: ${description}`, {
		metadata: limit === undefined ? { field } : { field, limit: String(limit) },
		violations: [{ field, description }],
	});
}
