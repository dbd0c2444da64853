import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type PeerBus, PeerUnavailableError } from "../../src/state/peer-bus.ts";
import { backends, type OpenedState } from "../harness/state-backends.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (value: Uint8Array) => new TextDecoder().decode(value);

describe.each(backends)("PeerBus on $name", ({ open }) => {
	let opened: OpenedState;
	let bus: PeerBus;
	beforeEach(async () => {
		opened = await open();
		bus = opened.state.bus;
	});
	afterEach(() => opened[Symbol.asyncDispose]());

	test("BUS-1 nodes holds this node", () => {
		const node = bus.nodes().find(({ id }) => id === bus.nodeId);
		expect(node).toMatchObject({ startTime: opened.clock.now() });
	});

	test("BUS-2 a node or channel that is not there is unavailable", async () => {
		const { signal } = new AbortController();
		await expect(bus.send("nobody", "c", bytes(""))).rejects.toThrow(PeerUnavailableError);
		await expect(bus.request("nobody", "c", bytes(""), signal)).rejects.toThrow(PeerUnavailableError);
		await expect(bus.request(bus.nodeId, "c", bytes(""), signal)).rejects.toThrow(PeerUnavailableError);
	});

	test("BUS-2 a request is answered, and a waiting one wakes on its signal", async () => {
		const stop = new AbortController();
		bus.handle("echo", async (asked, from) => bytes(`${text(asked)} from ${from}`));
		expect(text(await bus.request(bus.nodeId, "echo", bytes("hello"), stop.signal))).toBe(`hello from ${bus.nodeId}`);
		bus.handle("never", () => new Promise(() => {}));
		const waiting = bus.request(bus.nodeId, "never", bytes(""), stop.signal);
		stop.abort(new Error("enough"));
		await expect(waiting).rejects.toThrow("enough");
	});

	test("BUS-3 BUS-4 what is published and sent reaches this node's handler in order, until it is disposed", async () => {
		const heard: string[] = [];
		const handler = bus.handle("news", async (told) => {
			heard.push(text(told));
			if (heard.length === 1) throw new Error("a handler's own trouble");
			return undefined;
		});
		expect(() => bus.handle("news", async () => undefined)).toThrow("has a handler");
		await bus.publish("news", bytes("1"));
		await bus.send(bus.nodeId, "news", bytes("2"));
		await bus.publish("news", bytes("3"));
		handler[Symbol.dispose]();
		await bus.publish("news", bytes("4"));
		expect(heard).toEqual(["1", "2", "3"]);
	});
});
