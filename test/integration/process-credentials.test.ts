import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { manifestOf, reasonOf } from "../harness/hub.ts";
import { HubProcess, TestFolder } from "../harness/hub-process.ts";

let folder: TestFolder;
beforeEach(() => {
	folder = new TestFolder();
});
afterEach(() => folder[Symbol.dispose]());

describe("the operator token", () => {
	it("is its owner's alone, survives a restart, and is replaced on request", async () => {
		const data = join(folder.path, "new", "data");
		const file = join(data, "operator.token");
		let first: string;
		{
			await using hub = await HubProcess.start("embedded", data);
			first = hub.local.operatorToken;
			expect(readFileSync(file, "utf8").trim()).toBe(first);
			expect(statSync(file).mode & 0o777).toBe(0o600);
			expect(statSync(data).mode & 0o777).toBe(0o700);
			await hub.operator.plugins.list({});
			expect(hub.local.log()).not.toContain(first);
		}
		{
			await using hub = await HubProcess.start("embedded", data);
			expect(hub.local.operatorToken).toBe(first);
			await hub.operator.plugins.list({});
		}
		await using hub = await HubProcess.start("embedded", data, { flags: ["--new-operator-token"] });
		expect(hub.local.operatorToken).not.toBe(first);
		expect(statSync(file).mode & 0o777).toBe(0o600);
		await hub.operator.plugins.list({});
		expect(await refusal(hub.connect(first).plugins.list({}))).toEqual([Code.Unauthenticated, "CREDENTIAL_REVOKED"]);
	});

	it("of another state is replaced, and a memory hub's folder is its owner's alone too", async () => {
		const data = join(folder.path, "data");
		let first: string;
		{
			await using hub = await HubProcess.start("memory", data);
			first = hub.local.operatorToken;
			expect(statSync(data).mode & 0o777).toBe(0o700);
			expect(statSync(join(data, "operator.token")).mode & 0o777).toBe(0o600);
		}
		await using hub = await HubProcess.start("memory", data);
		expect(hub.local.operatorToken).not.toBe(first);
		expect((await refusal(hub.connect(first).plugins.list({})))[0]).toBe(Code.Unauthenticated);
	});
});

describe("development mode", () => {
	it("registers a free id without a credential and says loudly that it does", async () => {
		await using hub = await HubProcess.start("memory", folder.path, { flags: ["--dev"] });
		expect(hub.local.log()).toContain("DEVELOPMENT MODE");
		const { token, plugin } = await hub.connect().plugins.register({ manifestJson: manifestOf("newcomer") });
		expect(plugin?.id).toBe("newcomer");
		const newcomer = hub.connect(token);
		await newcomer.events.emit({ event: { type: "note.written" } });
		const again = hub.connect().plugins.register({ manifestJson: manifestOf("newcomer") });
		expect(await refusal(again)).toEqual([Code.AlreadyExists, "PLUGIN_EXISTS"]);
		await hub.enrol("enrolled");
		const taken = hub.connect().plugins.register({ manifestJson: manifestOf("enrolled") });
		expect(await refusal(taken)).toEqual([Code.AlreadyExists, "PLUGIN_EXISTS"]);
	});

	it("is off unless it is asked for", async () => {
		await using hub = await HubProcess.start("memory", folder.path);
		expect(hub.local.log()).not.toContain("DEVELOPMENT MODE");
		const registering = hub.connect().plugins.register({ manifestJson: manifestOf("newcomer") });
		expect((await refusal(registering))[0]).toBe(Code.Unauthenticated);
	});
});

/** How a call was refused. Fails where it was not. */
async function refusal(call: Promise<unknown>): Promise<[Code, string | undefined]> {
	const error = await call.then(
		() => expect.unreachable("was let in"),
		(error: unknown) => ConnectError.from(error),
	);
	return [error.code, reasonOf(error)];
}
