import { expect, it } from "vitest";
import { describeHubs, type TestHub } from "../harness/hub.ts";
import { Outbox } from "../harness/outbox.ts";
import { rawCall } from "../harness/raw-grpc.ts";

/** A token that the hub has not seen yet, so that its caller is not known at once. */
async function newToken(hub: TestHub): Promise<string> {
	await hub.enrol("alice");
	const { token } = await hub.operator.admin.issueCredential({ principal: { case: "pluginId", value: "alice" } });
	return token;
}

describeHubs("a request that ends with its headers", (start) => {
	it("ends a stream both ways, also where its caller is not known at once", async () => {
		await using hub = await start();
		const plugin = hub.connect(await newToken(hub));
		const frames: (string | undefined)[] = [];
		for await (const { frame } of plugin.messaging.sendStream(new Outbox<never>().ending())) frames.push(frame.case);
		expect(frames).toEqual(["ready"]);
	});

	it("is refused where there must be a message, also where its caller is not known at once", async () => {
		await using hub = await start();
		const headers = { authorization: `Bearer ${await newToken(hub)}` };
		const path = "/qirvo.hub.v1.HubService/GetHubInfo";
		expect(await rawCall(hub.running.port, { path, headers, body: [] })).toMatchObject({ reason: "MALFORMED_REQUEST" });
	});
});
