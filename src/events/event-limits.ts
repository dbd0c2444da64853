/** Bounds of one event, in bytes of UTF-8 unless said otherwise. */
export const EVENT_LIMITS = Object.freeze({
	idBytes: 128,
	subjectBytes: 512,
	orderingKeyBytes: 256,
	attributes: 64,
	attributeKeyBytes: 128,
	attributeValueBytes: 4096,
	contentTypeBytes: 128,
	schemaBytes: 512,
	/** Payload, attribute keys and attribute values together. */
	contentBytes: 1024 * 1024,
	/** Events of one `EmitStreamRequest`. */
	batchEvents: 1000,
	/** Bytes of one `EmitStreamRequest`. */
	batchBytes: 4 * 1024 * 1024,
});
