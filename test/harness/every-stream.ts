import type { MessageInitShape } from "@bufbuild/protobuf";
import type { EmitStreamRequestSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import type { AttachRequestSchema, SendStreamRequestSchema } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { Feed } from "./feed.ts";
import type { Clients } from "./hub.ts";
import { Outbox } from "./outbox.ts";

/** One open stream of each kind that a plugin can have. */
export async function openEveryStream(plugin: Clients, patterns: string[]) {
	const batches = new Outbox<MessageInitShape<typeof EmitStreamRequestSchema>>();
	const entries = new Outbox<MessageInitShape<typeof SendStreamRequestSchema>>();
	const answers = new Outbox<MessageInitShape<typeof AttachRequestSchema>>({ frame: { case: "open", value: {} } });
	const feeds = {
		subscribe: new Feed(plugin.events.subscribe({ patterns })),
		emitStream: new Feed(plugin.events.emitStream(batches)),
		sendStream: new Feed(plugin.messaging.sendStream(entries)),
		attach: new Feed(plugin.messaging.attach(answers)),
		receive: new Feed(plugin.messaging.receive({})),
		watch: new Feed(plugin.plugins.watch({})),
	};
	await Promise.all([
		...[feeds.subscribe.first("caughtUp"), feeds.emitStream.first("ready"), feeds.sendStream.first("ready")],
		...[feeds.attach.first("ready"), feeds.receive.first("ready"), feeds.watch.first("caughtUp")],
	]);
	return { feeds, batches, entries, answers };
}

export type EveryStream = Awaited<ReturnType<typeof openEveryStream>>;
