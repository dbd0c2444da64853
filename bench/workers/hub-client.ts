import { type Client, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { EventService } from "#gen/qirvo/hub/v1/event_service_pb.js";

/** The generated client over gRPC. */
export function eventClient(url: string, token: string): Client<typeof EventService> {
	const transport = createGrpcTransport({
		baseUrl: url,
		interceptors: [
			(next) => (request) => {
				request.header.set("authorization", `Bearer ${token}`);
				return next(request);
			},
		],
		nodeOptions: { settings: { initialWindowSize: 4 << 20 } },
	});
	return createClient(EventService, transport);
}
