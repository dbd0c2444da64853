// A bare Connect server on Node: it parses the event, and answers with its id.

import { createServer } from "node:http2";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { EventService } from "#gen/qirvo/hub/v1/event_service_pb.js";

const server = createServer(
	{ settings: { initialWindowSize: 1 << 20, maxConcurrentStreams: 1000 } },
	connectNodeAdapter({
		routes: (router) =>
			router.service(EventService, {
				emit: (request) => ({ id: request.event?.id ?? "", position: { epoch: "bench", sequence: 1n } }),
			}),
	}),
);
server.on("session", (session) => session.setLocalWindowSize(8 << 20));
server.listen(0, "127.0.0.1", () => {
	const address = server.address();
	process.stdout.write(`${JSON.stringify({ port: typeof address === "object" ? address?.port : 0 })}\n`);
});
process.on("SIGTERM", () => process.exit(0));
