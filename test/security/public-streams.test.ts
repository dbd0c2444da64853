import http2 from "node:http2";
import { expect, it } from "vitest";
import { PublicStreams } from "../../src/rpc/public-streams.ts";
import { describeHubs, until } from "../harness/hub.ts";
import { grpcFrame, rawCall, rawCallOn } from "../harness/raw-grpc.ts";

const WATCH = "/grpc.health.v1.Health/Watch";
const REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

describeHubs("streams that need no credential", (start) => {
	it("are bounded per connection", async () => {
		await using hub = await start();
		const session = http2.connect(hub.url);
		const streams = Array.from({ length: 16 }, (_, index) => {
			const path = index % 2 === 0 ? WATCH : REFLECTION;
			const stream = session.request({ ":method": "POST", ":path": path, "content-type": "application/grpc" });
			stream.on("error", () => {});
			if (path === WATCH) stream.end(grpcFrame(new Uint8Array(0)));
			return stream;
		});
		await until(() => hub.running.open().calls === 16);
		for (const path of [WATCH, REFLECTION]) {
			const refused = await rawCallOn(session, { path, body: [grpcFrame(new Uint8Array(0))] });
			expect(refused).toMatchObject({ grpcStatus: "8", reason: "LIMIT_EXCEEDED", metadata: { limit: "16" } });
		}
		const check = await rawCallOn(session, {
			path: "/grpc.health.v1.Health/Check",
			body: [grpcFrame(new Uint8Array(0))],
		});
		expect(check.grpcStatus).toBe("0");
		const elsewhere = await rawCall(hub.running.port, { path: REFLECTION });
		expect(elsewhere.grpcStatus).toBe("0");
		streams[1]!.close(http2.constants.NGHTTP2_CANCEL);
		await until(() => hub.running.open().calls === 15);
		const again = await rawCallOn(session, { path: REFLECTION });
		expect(again.grpcStatus).toBe("0");
		session.destroy();
	});
});

it("are bounded in all", () => {
	const streams = new PublicStreams({ publicStreamsPerConnection: 2, publicStreams: 3 });
	for (const connection of ["a", "a", "b"]) streams.take(connection);
	const refused = expect.objectContaining({ reason: "LIMIT_EXCEEDED" });
	expect(() => streams.take("c")).toThrow(refused);
	streams.release("a");
	streams.take("c");
	expect(() => streams.take("a")).toThrow(refused);
});
