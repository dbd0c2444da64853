/** Bounds of one event, message or reply, and of a batch of them; in bytes of UTF-8 unless said otherwise. */
export const CONTENT_LIMITS = Object.freeze({
	idBytes: 128,
	subjectBytes: 512,
	orderingKeyBytes: 256,
	/** How many. */
	attributes: 64,
	attributeKeyBytes: 128,
	attributeValueBytes: 4096,
	contentTypeBytes: 128,
	schemaBytes: 512,
	/** Payload, attribute keys and attribute values together. */
	contentBytes: 1024 * 1024,
	/** Levels of nesting of a JSON payload. */
	jsonDepth: 64,
	/** Events, messages or settlements of one frame. */
	batchEntries: 1000,
	/** Bytes of one `EmitStreamRequest`. */
	batchBytes: 4 * 1024 * 1024,
});

/** Attribute keys that only the hub may set start so. */
export const RESERVED_ATTRIBUTE_PREFIX = "hub-";

/** The path of an attribute in an error. */
export function attributePath(key: string): string {
	return `attributes[${JSON.stringify(key)}]`;
}
