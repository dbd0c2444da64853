import { request } from "node:http";
import { expect, it } from "vitest";
import { loopbackHosts } from "../../src/server/host-rule.ts";
import { describeHubs, type TestHub } from "../harness/hub.ts";
import { grpcFrame, rawCall } from "../harness/raw-grpc.ts";

const CHECK = "/grpc.health.v1.Health/Check";

function http1(hub: TestHub, method: string, path: string, host: string): Promise<number | undefined> {
	return new Promise((resolve, reject) => {
		const headers = { host, "content-type": "application/json" };
		const sent = request(
			{ host: "127.0.0.1", port: hub.running.port, method, path, headers, agent: false },
			(response) => {
				response.resume();
				response.on("end", () => resolve(response.statusCode));
			},
		);
		sent.on("error", reject);
		sent.end(method === "POST" ? "{}" : undefined);
	});
}

async function answers(hub: TestHub, host: string) {
	const call = (contentType: string, body: Uint8Array) =>
		rawCall(hub.running.port, {
			path: CHECK,
			headers: { ":authority": host, "content-type": contentType },
			body: [body],
		});
	const empty = grpcFrame(new Uint8Array(0));
	return [
		(await call("application/grpc", empty)).httpStatus,
		(await call("application/grpc-web+proto", empty)).httpStatus,
		(await call("application/json", Buffer.from("{}"))).httpStatus,
		await http1(hub, "POST", CHECK, host),
		await http1(hub, "GET", "/readyz", host),
		await http1(hub, "GET", "/metrics", host),
	];
}

describeHubs("a hub that takes anybody", (start) => {
	it("answers nobody who asks for another host", async () => {
		await using hub = await start({ options: { dev: true } });
		for (const host of ["evil.example", "evil.example:50051", "127.0.0.1.evil.example"]) {
			expect(await answers(hub, host)).toEqual([403, 403, 403, 403, 403, 403]);
		}
		for (const host of ["localhost", "LOCALHOST:1", "127.0.0.1:50051", "[::1]:50051"]) {
			expect(await answers(hub, host)).toEqual([200, 200, 200, 200, 200, 200]);
		}
	});

	it("is the only one that does so", async () => {
		await using hub = await start();
		expect(await answers(hub, "hub.example")).toEqual([200, 200, 200, 200, 200, 200]);
	});
});

it("one of two names is enough to be refused", () => {
	expect(loopbackHosts({ ":authority": "localhost", host: "evil.example" })).toBe(false);
	expect(loopbackHosts({ host: "localhost." })).toBe(false);
	expect(loopbackHosts({})).toBe(true);
});
