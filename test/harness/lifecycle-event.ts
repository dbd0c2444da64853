import { create, toBinary } from "@bufbuild/protobuf";
import { OutboxRecordSchema } from "#gen/qirvo/hub/storage/v1/records_pb.js";
import { EventSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";

/** The stored outbox record of a plugin's registration, admitting whom `control` says. */
export function lifecycleEvent(id: string, control?: { allow?: string[]; deny?: string[] }) {
	const json = JSON.stringify({ pluginId: "newcomer", capabilities: { accessControl: control } });
	const payload = { body: { case: "json" as const, value: json } };
	const event = create(EventSchema, { id, type: "plugin:registered", subject: "newcomer", source: "hub", payload });
	return toBinary(
		OutboxRecordSchema,
		create(OutboxRecordSchema, { id, topic: "plugin.registered", event: toBinary(EventSchema, event) }),
	);
}
