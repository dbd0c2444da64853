import type { MessageInitShape } from "@bufbuild/protobuf";
import type { AttachRequestSchema, AttachResponse, Message } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { Feed } from "./feed.ts";
import type { Clients } from "./hub.ts";
import { Outbox } from "./outbox.ts";

type Up = MessageInitShape<typeof AttachRequestSchema>;

/** A plugin's receiving session that acknowledges what comes, and answers each request with success unless it is told not to. */
export class Inbox {
	readonly down: Feed<AttachResponse>;
	readonly #up: Outbox<Up>;

	private constructor(clients: Clients, answers: boolean) {
		const up = new Outbox<Up>({ frame: { case: "open", value: { maxInFlight: 10_000 } } });
		this.#up = up;
		this.down = new Feed(settled(clients.messaging.attach(up), up, answers));
	}

	static async open(clients: Clients, { answers = true } = {}): Promise<Inbox> {
		const inbox = new Inbox(clients, answers);
		await inbox.down.first("ready");
		return inbox;
	}

	/** What came so far. */
	get messages(): readonly Message[] {
		return this.down.all("batch").flatMap(({ deliveries }) => deliveries.map(({ message }) => message!));
	}

	get ids(): readonly string[] {
		return this.messages.map(({ id }) => id);
	}

	/** Resolves once so many have come. */
	async came(count: number): Promise<void> {
		await this.down.when(() => this.messages.length >= count);
	}

	async close(): Promise<void> {
		this.#up.end();
		await this.down.ended;
	}
}

async function* settled(frames: AsyncIterable<AttachResponse>, up: Outbox<Up>, answers: boolean) {
	for await (const response of frames) {
		yield response;
		if (response.frame.case !== "batch") continue;
		for (const { deliveryId, message } of response.frame.value.deliveries) {
			if (!message?.requiresResponse) {
				const deliveries = [{ deliveryId, outcome: { case: "acknowledge", value: true } as const }];
				up.push({ frame: { case: "settlement", value: { deliveries } } });
			} else if (answers) {
				up.push({ frame: { case: "reply", value: { deliveryId, reply: { success: true } } } });
			}
		}
	}
}
