import { type Client, createClient } from "@connectrpc/connect";
import { EventService } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { createLeanTransport } from "../../src/client/index.ts";

/** The generated client over the SDK's transport. */
export function eventClient(url: string): Client<typeof EventService> {
	return createClient(EventService, createLeanTransport({ url }));
}

/** What a call carries beside its message. */
export const headersOf = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });
