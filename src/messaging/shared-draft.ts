import { MessageKind } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { WireWriter } from "../wire/wire-writer.ts";
import type { MessageDraft } from "./message-draft.ts";
import { contentDigest } from "./sent-ids.ts";

/** How a message for many is sent. */
export type SharedOrigin =
	| { readonly kind: "publication"; readonly topic: string }
	| { readonly kind: "broadcast" }
	/** To several that its sender names. */
	| { readonly kind: "request" };

/** A message that goes to many under one id, with what the hub says of its origin in its wire form. */
export interface SharedDraft extends MessageDraft {
	readonly digest: string;
}

/** Bytes around the strings that are appended. */
const OVERHEAD = 32;

/** `id` is for a message whose sender did not name it; such a one has no digest, as nobody can repeat it. */
export function sharedDraft(draft: MessageDraft, origin: SharedOrigin, id: string): SharedDraft {
	const topic = origin.kind === "publication" ? origin.topic : "";
	const writer = new WireWriter(draft.wire.byteLength + (id.length + topic.length) * 3 + OVERHEAD);
	writer.append(draft.wire);
	if (draft.id === "") writer.string(1, id);
	if (origin.kind === "publication") {
		writer.varint(21, MessageKind.PUBLICATION);
		writer.string(22, topic);
	} else if (origin.kind === "broadcast") {
		writer.varint(21, MessageKind.BROADCAST);
	}
	const wire = writer.finish();
	const digest = draft.id === "" ? "" : contentDigest(wire);
	return { ...draft, id: draft.id === "" ? id : draft.id, wire, digest };
}
