// The least a gRPC server on Node can do: it gives every request message back as it came.
import { createServer } from "node:http2";

const server = createServer({ settings: { initialWindowSize: 1 << 20, maxConcurrentStreams: 1000 } });
server.on("session", (session) => session.setLocalWindowSize(8 << 20));
server.on("stream", (stream) => {
	stream.on("error", () => {});
	const chunks: Buffer[] = [];
	stream.on("data", (chunk: Buffer) => chunks.push(chunk));
	stream.on("end", () => {
		stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
		stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
		stream.end(chunks.length === 1 ? chunks[0] : Buffer.concat(chunks));
	});
});
server.listen(0, "127.0.0.1", () => {
	const address = server.address();
	process.stdout.write(`${JSON.stringify({ port: typeof address === "object" ? address?.port : 0 })}\n`);
});
process.on("SIGTERM", () => process.exit(0));
