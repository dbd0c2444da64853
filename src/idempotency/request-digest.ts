import { createHash } from "node:crypto";
import { create, type DescMessage, type Message, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { type ReflectMessage, reflect } from "@bufbuild/protobuf/reflect";

/**
 * SHA-256 of what a request asks for: its known fields with maps in key order, so that two spellings of one request in
 * wire form or JSON have one digest. `ignore` names fields that do not count, by their local names.
 */
export function requestDigest<D extends DescMessage>(
	schema: D,
	request: MessageShape<D>,
	ignore: readonly (keyof MessageShape<D> & string)[] = ["requestId" as keyof MessageShape<D> & string],
): Uint8Array {
	const counted = { ...request };
	const empty = create(schema);
	for (const name of ignore) counted[name] = empty[name];
	const bytes = toBinary(schema, withSortedMaps(reflect(schema, counted)) as MessageShape<D>, {
		writeUnknownFields: false,
	});
	return createHash("sha256").update(bytes).digest();
}

/** A copy whose maps iterate in key order, all the way down. */
function withSortedMaps(message: ReflectMessage): Message {
	const copy = reflect(message.desc);
	for (const field of message.fields) {
		if (!message.isSet(field)) continue;
		switch (field.fieldKind) {
			case "message":
				copy.set(field, reflect(field.message, withSortedMaps(message.get(field))));
				break;
			case "list": {
				const target = copy.get(field);
				for (const item of message.get(field)) target.add(sorted(item));
				break;
			}
			case "map": {
				const target = copy.get(field);
				const entries = [...message.get(field)].sort(([a], [b]) => (String(a) < String(b) ? -1 : 1));
				for (const [key, value] of entries) target.set(key, sorted(value));
				break;
			}
			default:
				copy.set(field, message.get(field));
		}
	}
	return copy.message;
}

function sorted(value: unknown): unknown {
	return isReflected(value) ? reflect(value.desc, withSortedMaps(value)) : value;
}

function isReflected(value: unknown): value is ReflectMessage {
	return typeof value === "object" && value !== null && "desc" in value && "message" in value;
}
