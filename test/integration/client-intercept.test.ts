import { expect, it } from "vitest";
import { connect } from "../../src/client/index.ts";
import { startCuttingRelay } from "../harness/cutting-relay.ts";
import { ALL_GRANTS, describeHubs, manifestOf, type TestHub, until } from "../harness/hub.ts";
import { quiet } from "./client-opener.ts";

async function plugin(hub: TestHub, id: string, url = hub.url) {
	const { admin } = hub.operator;
	const { token } = await admin.issueCredential({ principal: { case: "pluginId", value: id } });
	await admin.setTrustLevel({ pluginId: id, trustLevel: 3 });
	await admin.setPermissions({ pluginId: id, permissions: { ...ALL_GRANTS, intercept: id === "judge" } });
	return connect({ url, token, manifest: manifestOf(id), logger: quiet });
}

describeHubs("the client's interceptor", (start) => {
	it("passes, changes, answers and refuses, and is gone once it is disposed of", async () => {
		await using hub = await start();
		await using alice = await plugin(hub, "alice");
		await using bob = await plugin(hub, "bob");
		await using judge = await plugin(hub, "judge");
		await bob.messages.handle("**", ({ data, attributes }) => ({ data, ...attributes })).ready;
		const interception = judge.messages.intercept(
			{ name: "check", types: ["**"], onFailure: "closed", deadline: 5000 },
			({ type, data, source }, recipient) => {
				if (type === "change")
					return { kind: "change", data: `${data}!`, attributes: { seen: `${source}>${recipient}` } };
				if (type === "answer") return { kind: "answer", data: 42 };
				if (type === "refuse") return { kind: "refuse", reason: "no" };
				if (type === "throw") throw new Error("a fault");
				return { kind: "pass" };
			},
		);
		await interception.ready;
		const ask = async (type: string) => (await alice.messages.request("bob", type, "x")).data;
		expect(await ask("pass")).toEqual({ data: "x" });
		expect(await ask("change")).toEqual({ data: "x!", seen: "alice>bob", "hub-middleware": "judge" });
		expect(await ask("answer")).toBe(42);
		await expect(ask("refuse")).rejects.toMatchObject({ reason: "MESSAGE_REFUSED", message: "no" });
		await expect(ask("throw")).rejects.toMatchObject({ reason: "MIDDLEWARE_UNAVAILABLE" });
		interception[Symbol.dispose]();
		expect(await interception.ended).toBeUndefined();
		expect(await ask("refuse")).toEqual({ data: "x" });
	});

	it("that fails closed and is disposed of while the connection is lost is withdrawn once there is one", async () => {
		await using hub = await start();
		await using relay = await startCuttingRelay(hub.url);
		await using alice = await plugin(hub, "alice");
		await using bob = await plugin(hub, "bob");
		await using judge = await plugin(hub, "judge", relay.url);
		await bob.messages.handle("**", () => "here").ready;
		const options = { name: "check", types: ["**"], onFailure: "closed" } as const;
		const interception = judge.messages.intercept(options, () => ({ kind: "refuse", reason: "no" }));
		await interception.ready;
		const ask = async () => (await alice.messages.request("bob", "ask")).data;
		await relay.cut(async () => {
			await until(() => judge.state === "reconnecting");
			await expect(ask()).rejects.toMatchObject({ reason: "MIDDLEWARE_UNAVAILABLE" });
			interception[Symbol.dispose]();
		});
		expect(await interception.ended).toBeUndefined();
		expect(await ask()).toBe("here");
	});

	it("is told where it may not", async () => {
		await using hub = await start();
		await using alice = await plugin(hub, "alice");
		const refused = alice.messages.intercept({ name: "x", types: ["**"], onFailure: "open" }, () => ({ kind: "pass" }));
		await expect(refused.ready).rejects.toMatchObject({ reason: "INSUFFICIENT_PERMISSIONS" });
		expect(await refused.ended).toMatchObject({ reason: "INSUFFICIENT_PERMISSIONS" });
	});
});
