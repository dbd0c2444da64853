import type { Transport } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import {
	connect,
	createGrpcJsTransport,
	createNodeTransport,
	type HubClientError,
	type Store,
} from "../../src/client/index.ts";
import { connect as connectWeb } from "../../src/client/web.ts";
import { clientPlugin, type OpenClient } from "../harness/client-plugin.ts";
import { describeHubs, TestHub, until } from "../harness/hub.ts";

type ClosableTransport = Transport & { close(): void };

/** A client over a transport that is closed at the end of the test. */
function over(create: (options: { readonly url: string }) => ClosableTransport): OpenClient {
	return async (options) => {
		const transport = create({ url: options.url });
		const client = await connect({ ...options, transport });
		closing.push(() => transport.close());
		return client;
	};
}

const closing: (() => void)[] = [];
const CLIENTS: readonly (readonly [string, OpenClient])[] = [
	["lean", connect],
	["connect-node", over(createNodeTransport)],
	["grpc-js", over(createGrpcJsTransport)],
	["web", connectWeb],
];

/** Ends the test's transports, and lets go of the hub where the transport keeps connections for later. */
async function leave(hub: TestHub, name: string): Promise<void> {
	for (const close of closing.splice(0)) close();
	await until(() => hub.running.open().calls === 0);
	// `fetch` keeps connections for later, which the hub's own check would take for leaks.
	if (name === "web") await hub.running.stop();
}

interface Note {
	readonly text: string;
}

const Note = {
	parse(value: unknown): Note {
		if (typeof (value as Note | null)?.text === "string") return value as Note;
		throw new TypeError("a note has a text");
	},
};

/** Does with a store all that the client offers. */
async function exercise(hub: TestHub, open: OpenClient): Promise<void> {
	const ada = await clientPlugin(hub, "ada", open);
	const bob = await clientPlugin(hub, "bob", open);
	try {
		await administer(ada);
		await useEntries(ada.store("notes", { schema: Note }), bob.store("notes", { schema: Note }));
		await useNumbers(ada.store("numbers"));
		await watchAndCache(ada.store("numbers"), bob.store("numbers", { cache: true }));
	} finally {
		await Promise.all([ada.close(), bob.close()]);
	}
}

async function administer(ada: Awaited<ReturnType<OpenClient>>): Promise<void> {
	const all = { plugins: ["*"] };
	const made = await ada.stores.create("notes", { read: all, write: all, history: 4, description: "what was noted" });
	expect(made).toMatchObject({ name: "notes", owner: "ada", usage: { keys: 0, bytes: 0 } });
	expect(made.settings).toMatchObject({ persistent: true, read: all, history: 4, quota: { keys: 100_000 } });
	await expect(ada.stores.create("notes")).rejects.toMatchObject({ reason: "STORE_EXISTS" });
	await ada.stores.create("numbers", { persistent: false, read: all, write: all });
	const validators = [{ name: "short", glob: "*", cel: "value.text.size() < 100" }];
	const settings = { ...made.settings, validators };
	await expect(ada.stores.update("notes", settings, { expected: made.revision + 1n })).rejects.toMatchObject({
		reason: "REVISION_MISMATCH",
	});
	expect((await ada.stores.update("notes", settings, { expected: made.revision })).settings.validators).toEqual(
		validators,
	);
	const names: string[] = [];
	for await (const { name } of ada.stores.list({ pageSize: 1 })) names.push(name);
	expect(names).toEqual(["notes", "numbers"]);
	await ada.stores.create("gone");
	await ada.stores.transfer("gone", "bob");
	expect(await ada.stores.get("gone").catch((error: HubClientError) => error.reason)).toBe("STORE_NOT_FOUND");
	await ada.stores.create("gone2");
	await ada.stores.delete("gone2");
	await expect(ada.stores.get("gone2")).rejects.toMatchObject({ reason: "STORE_NOT_FOUND" });
}

async function useEntries(mine: Store<Note>, theirs: Store<Note>): Promise<void> {
	const first = await mine.set("a", { text: "hello" });
	const read = await theirs.get("a");
	expect(read).toMatchObject({ key: "a", value: { text: "hello" }, revision: first.revision, writer: "ada" });
	expect(read?.updateTime).toBeInstanceOf(Date);
	expect(await theirs.get("b")).toBeUndefined();
	const stale = await theirs
		.set("a", { text: "no" }, { expected: first.revision - 1n })
		.catch((error: unknown) => error);
	expect(stale).toMatchObject({
		reason: "REVISION_MISMATCH",
		failedChecks: [{ store: "notes", key: "a", expected: first.revision - 1n, actualRevision: first.revision }],
	});
	await expect(theirs.set("a", { text: "x".repeat(100) })).rejects.toMatchObject({
		reason: "VALIDATION_FAILED",
		metadata: { validator: "short" },
	});
	await expect(theirs.set("a", {} as Note)).rejects.toMatchObject({ metadata: { validator: "client" } });
	const second = await theirs.set("a", { text: "bye" }, { expected: first.revision, returnPrevious: true });
	expect(second.previous?.value).toEqual({ text: "hello" });
	const versions: unknown[] = [];
	for await (const { entry, actor, cause } of mine.history("a")) versions.push([entry?.value.text, actor, cause]);
	expect(versions).toEqual([
		["bye", "bob", "set"],
		["hello", "ada", "set"],
	]);
	const done = await mine.transact((tx) => tx.check("a", second.revision).set("b", { text: "b" }).delete("a"));
	expect(done.results.map(({ changed }) => changed)).toEqual([true, true]);
	const failed = await mine
		.transact((tx) => tx.check("a", "exists").set("b", { text: "c" }, { expected: "absent" }))
		.catch((error: HubClientError) => error.failedChecks);
	expect(failed).toMatchObject([
		{ key: "a" },
		{ key: "b", expected: "absent", actualRevision: done.results[0]?.revision },
	]);
	const once = await mine.set("c", { text: "once" }, { requestId: "r-1" });
	expect(await mine.set("c", { text: "once" }, { requestId: "r-1" })).toEqual(once);
	await mine.set("brief", { text: "soon gone" }, { ttl: 60_000, ephemeral: true });
	expect((await mine.get("brief"))?.expireTime?.getTime()).toBeGreaterThan(Date.now());
	expect((await mine.get("brief"))?.instanceId).not.toBe("");
	const keys: string[] = [];
	for await (const key of theirs.keys({ reverse: true, pageSize: 2 })) keys.push(key);
	expect(keys).toEqual(["c", "brief", "b"]);
	for await (const entry of theirs.list({ glob: "b*" })) keys.push(entry.value.text);
	expect(keys.slice(3)).toEqual(["b", "soon gone"]);
	expect([...(await theirs.snapshot()).entries.keys()]).toEqual(["b", "brief", "c"]);
}

async function useNumbers(store: Store): Promise<void> {
	const sums = await Promise.all(Array.from({ length: 50 }, () => store.increment("n", 2)));
	expect(sums.map(({ value }) => value).sort((a, b) => a - b)).toEqual(Array.from({ length: 50 }, (_, n) => 2 * n + 2));
	await Promise.all(Array.from({ length: 5 }, () => store.update("n", (n) => n + 1, { attempts: 30 })));
	expect((await store.get("n"))?.value).toBe(105);
	expect([await store.append("list", { a: 1, b: 2 }), await store.append("list", { b: 2, a: 1 })]).toMatchObject([
		{ changed: true },
		{ changed: false },
	]);
	await store.set("bytes", new Uint8Array([0, 255]));
	expect([...(await store.get("bytes"))!.value]).toEqual([0, 255]);
	await expect(store.increment("bytes")).rejects.toMatchObject({ reason: "VALUE_MISMATCH" });
	for (const key of ["__proto__", "constructor", "a\0b", "é", "e\u0301", "k".repeat(512)]) {
		await store.set(key, key);
		expect((await store.get(key))?.value).toBe(key);
		await store.delete(key);
	}
	await expect(store.get("k".repeat(513))).rejects.toMatchObject({ reason: "INVALID_FIELD" });
	await expect(store.set("big", "x".repeat(1024 * 1024))).rejects.toMatchObject({ reason: "INVALID_CONTENT" });
}

async function watchAndCache(mine: Store, theirs: Store): Promise<void> {
	const told: unknown[] = [];
	const watch = await theirs.onChange((change) =>
		told.push([change.key, change.previous?.value, change.entry?.value, change.actor]),
	);
	expect(told.map((one) => (one as unknown[])[0])).toEqual(["bytes", "list", "n"]);
	await theirs.warm();
	await mine.set("n", 1);
	await mine.transact((tx) => tx.delete("list").set("m", 2));
	await until(() => told.length === 6);
	expect(told.slice(3)).toEqual([
		["n", 105, 1, "ada"],
		["list", [{ a: 1, b: 2 }], undefined, "ada"],
		["m", undefined, 2, "ada"],
	]);
	expect((await theirs.set("own", "mine")).changed).toBe(true);
	expect((await theirs.get("own"))?.value).toBe("mine");
	expect((await theirs.get("m"))?.value).toBe(2);
	expect(await theirs.get("list")).toBeUndefined();
	watch.unwatch();
	theirs[Symbol.dispose]();
	expect(await watch.closed).toBeUndefined();
}

describeHubs("stores through the client", (start) => {
	it("do what it offers", async () => {
		await using hub = await start();
		await exercise(hub, connect);
	});
});

describe.each(CLIENTS)("stores through the %s transport", (name, open) => {
	it("do what the client offers", async () => {
		await using hub = await TestHub.start({ options: { drainMs: 50 } });
		await exercise(hub, open);
		await leave(hub, name);
	});

	it("are refused as the hub refuses them, and are read by operators", async () => {
		await using hub = await TestHub.start({ options: { drainMs: 50 } });
		const ada = await clientPlugin(hub, "ada", open);
		const eve = await clientPlugin(hub, "eve", open);
		const operator = await open({ url: hub.url, token: hub.operator.token });
		try {
			await ada.stores.create("mine");
			await ada.store("mine").set("a", 1);
			const reasons = [
				eve.store("mine").get("a"),
				eve.store("none").get("a"),
				eve.store("mine").set("a", 1),
				eve.store("mine").onChange(() => {}),
				eve.store("mine").snapshot(),
			].map((one) => one.catch((error: HubClientError) => error.reason));
			expect(await Promise.all(reasons)).toEqual(Array(5).fill("STORE_NOT_FOUND"));
			expect((await operator.store("mine").get("a"))?.value).toBe(1);
			expect((await operator.stores.get("mine")).usage.keys).toBe(1);
			await expect(operator.store("mine").set("a", 2)).rejects.toMatchObject({ reason: "CALLER_NOT_ALLOWED" });
		} finally {
			await Promise.all([ada.close(), eve.close(), operator.close()]);
		}
		await leave(hub, name);
	});
});
