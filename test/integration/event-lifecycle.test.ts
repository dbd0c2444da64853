import { afterEach, beforeEach, expect, test } from "vitest";
import { keys } from "../../src/state/key-layout.ts";
import { type Frames, next, openLive } from "../harness/event-frames.ts";
import { EventHub, FakeCall, operator, plugin } from "../harness/event-hub.ts";
import { eventually } from "../harness/eventually.ts";
import { lifecycleEvent } from "../harness/lifecycle-event.ts";

let hub: EventHub;

beforeEach(async () => {
	hub = await EventHub.open();
});

afterEach(async () => {
	hub.assertNothingLeft();
	await hub[Symbol.asyncDispose]();
});

const live = (request: Parameters<EventHub["subscribe"]>[0], call?: FakeCall) => openLive(hub, request, call);

test("moves the hub's own events to the log in the order of their commits, once", async () => {
	for (const id of ["z", "a", "m"]) {
		await hub.state.kv.commit({ id, writes: [{ key: keys.outboxEvent(id), value: lifecycleEvent(id) }] });
	}
	const isEmpty = () => hub.state.kv.range({ start: "outbox/", end: "outbox0", limit: 1 }).entries.length === 0;
	await eventually(() => isEmpty() && hub.log.bounds().next === 4);
	// As after a crash between the two steps.
	await hub.state.kv.commit({ id: "again", writes: [{ key: keys.outboxEvent("a"), value: lifecycleEvent("a") }] });
	await eventually(isEmpty);
	expect(hub.log.bounds().next).toBe(4);
	const { events } = await hub.listEvents({ patterns: ["plugin.**"] }, operator);
	expect(events.map((event) => [event.id, event.source, event.type])).toEqual([
		["z", "hub", "plugin:registered"],
		["a", "hub", "plugin:registered"],
		["m", "hub", "plugin:registered"],
	]);
	expect(hub.faults).toEqual([]);
});

test("shows a lifecycle event to those whom the plugin admits", async () => {
	const feeds = new Map<string, Frames>();
	for (const name of ["friend", "stranger", "enemy", "newcomer"]) {
		feeds.set(name, await live({ patterns: ["plugin.*"] }, new FakeCall(plugin(name))));
	}
	feeds.set("root", await live({ patterns: ["plugin.*"] }, new FakeCall(operator)));
	const events: [string, { allow?: string[]; deny?: string[] } | undefined][] = [
		["open", undefined],
		["allow", { allow: ["friend", "enemy"], deny: ["enemy"] }],
		["deny", { deny: ["enemy"] }],
		["nobody", { allow: ["*"], deny: ["*"] }],
	];
	const writes = events.map(([id, control]) => ({ key: keys.outboxEvent(id), value: lifecycleEvent(id, control) }));
	for (const [index, write] of writes.entries()) await hub.state.kv.commit({ id: `c${index}`, writes: [write] });
	await eventually(() => hub.log.bounds().next === 5);
	const seen: Record<string, string[]> = {};
	const listed: Record<string, string[]> = {};
	for (const [name, frames] of feeds) {
		const frame = await next(frames);
		seen[name] = frame.frame.case === "batch" ? frame.frame.value.events.map((event) => event.id) : [];
		await frames.return();
		const page = await hub.listEvents({ patterns: ["**"] }, name === "root" ? operator : plugin(name));
		listed[name] = page.events.map((event) => event.id);
	}
	expect(seen).toEqual({
		friend: ["open", "allow", "deny"],
		stranger: ["open", "deny"],
		enemy: ["open"],
		newcomer: ["open", "allow", "deny", "nobody"],
		root: ["open", "allow", "deny", "nobody"],
	});
	expect(listed).toEqual(seen);
});
