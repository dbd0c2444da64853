import type { MessageInitShape } from "@bufbuild/protobuf";
import { expect } from "vitest";
import type { AddressSchema, Delivery, MessageSchema } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import type { AttachPeer } from "./messaging-peers.ts";

type Message = Partial<MessageInitShape<typeof MessageSchema>>;
type Send = { to: MessageInitShape<typeof AddressSchema>; message: MessageInitShape<typeof MessageSchema> };

/** A durable message to a plugin, as `Send` takes it. */
export function durable(recipient: string, message: Omit<Message, "$typeName" | "$unknown"> = {}): Send {
	return {
		to: { target: { case: "pluginId", value: recipient } },
		message: { type: "job", payload: { body: { case: "json", value: "1" } }, ...message } as Send["message"],
	};
}

/** A protobuf duration. */
export const seconds = (value: number) => ({
	seconds: BigInt(Math.floor(value)),
	nanos: Math.round((value % 1) * 1e9),
});

/** The ids of the messages that were delivered. */
export const idsOf = (deliveries: readonly Delivery[]) => deliveries.map(({ message }) => message!.id);

/** The only delivery of the next batch. */
export async function take(peer: AttachPeer): Promise<Delivery> {
	const deliveries = await peer.deliveries();
	expect(deliveries).toHaveLength(1);
	return deliveries[0]!;
}
