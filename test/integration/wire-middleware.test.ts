import type { MessageInitShape } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import { type AttachRequestSchema, type AttachResponse, Durability } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import type { Middleware, MiddlewareVerdict } from "../../src/messaging/middleware.ts";
import { StartError } from "../../src/server/start-hub.ts";
import { failureOf } from "../harness/failure.ts";
import { Feed } from "../harness/feed.ts";
import { type Clients, describeHubs } from "../harness/hub.ts";
import { Outbox } from "../harness/outbox.ts";

type Up = MessageInitShape<typeof AttachRequestSchema>;

const to = (value: string) => ({ target: { case: "pluginId", value } }) as const;
const json = (value: unknown) => ({ body: { case: "json", value: JSON.stringify(value) } }) as const;
const transient = Durability.TRANSIENT;
const pass: MiddlewareVerdict = { kind: "pass" };

async function attach(clients: Clients) {
	const up = new Outbox<Up>({ frame: { case: "open", value: { maxInFlight: 10_000 } } });
	const down = new Feed<AttachResponse>(clients.messaging.attach(up));
	await down.first("ready");
	const messages = () => down.all("batch").flatMap(({ deliveries }) => deliveries.map(({ message }) => message!));
	return { messages, received: (count: number) => down.when(() => messages().length === count) };
}

function middleware(name: string, inspect: Middleware["inspect"], more: Partial<Middleware> = {}): Middleware {
	return { name, onFailure: "closed", inspect, ...more };
}

describeHubs("a middleware of the process", (start) => {
	it("passes, changes and refuses, in order, and is named on what it changed", async () => {
		const seen: string[] = [];
		const tag = (name: string) =>
			middleware(
				name,
				({ payload, attributes, id, source, recipient }, { from, to }) => {
					seen.push(`${name} ${from}>${to} ${source}>${recipient} ${attributes["hub-middleware"] ?? ""}`);
					expect(id).not.toBe("");
					const text = payload?.body.case === "json" ? JSON.parse(payload.body.value) : "";
					return { kind: "change", payload: json(`${text}-${name}`), attributes: { [name]: "yes", gone: undefined } };
				},
				{ types: ["change.*"] },
			);
		const refuse = middleware("bouncer", () => ({ kind: "refuse", reason: "not today" }), { types: ["refuse.me"] });
		await using hub = await start({
			middleware: [{ ...tag("b"), order: 1 }, tag("c"), tag("a"), refuse, middleware("all", () => pass)],
		});
		const [alice, bob] = [await hub.enrol("alice"), await hub.enrol("bob")];
		const inbox = await attach(bob);
		const send = (type: string, more: object = {}) =>
			alice.messaging.send({ to: to("bob"), message: { type, payload: json("x"), ...more }, durability: transient });
		const sent = { id: "m-1", attributes: { gone: "1", stays: "2" }, priority: 3 };
		expect(await send("change.it", sent)).toMatchObject({ id: "m-1", duplicate: false });
		expect(await send("change.it", sent)).toMatchObject({ id: "m-1", duplicate: true });
		await send("plain", { id: "m-2" });
		await alice.messaging.send({ to: to("bob"), message: { type: "change.it" } });
		expect(await failureOf(send("refuse.me"))).toMatchObject({
			code: "PermissionDenied",
			reason: "MESSAGE_REFUSED",
			message: "not today",
			metadata: { middleware: "bouncer" },
		});
		await inbox.received(3);
		expect(inbox.messages()).toMatchObject([
			{
				...sent,
				payload: json("x-a-c-b"),
				attributes: { a: "yes", b: "yes", c: "yes", stays: "2", "hub-middleware": "a,c,b" },
			},
			{ id: "m-2", payload: json("x") },
			{ payload: json("-a-c-b") },
		]);
		expect(inbox.messages()[0]!.attributes).not.toHaveProperty("gone");
		expect(inbox.messages()[1]!.attributes).toEqual({});
		expect(seen.slice(0, 3)).toEqual([
			"a alice>bob alice>bob ",
			"c alice>bob alice>bob a",
			"b alice>bob alice>bob a,c",
		]);
	});

	it("answers a request in the recipient's place, and cannot answer a message", async () => {
		const answer: MiddlewareVerdict = { kind: "answer", reply: { success: true, data: json(42) } };
		const bad: MiddlewareVerdict = { kind: "answer", reply: { success: true, error: { type: "x" } } };
		await using hub = await start({
			middleware: [
				middleware("cache", ({ requiresResponse }) => (requiresResponse ? answer : pass), { types: ["ask"] }),
				middleware("wrong", () => answer, { types: ["tell"] }),
				middleware("broken", () => bad, { types: ["broken"] }),
			],
		});
		const [alice, bob] = [await hub.enrol("alice"), await hub.enrol("bob")];
		const inbox = await attach(bob);
		const ask = (type: string, id = "") => alice.messaging.request({ to: to("bob"), message: { type, id } });
		expect(await ask("ask", "r-1")).toMatchObject({
			id: "r-1",
			source: "cache",
			reply: { success: true, data: json(42) },
		});
		expect((await ask("ask")).id).not.toBe("");
		expect(await failureOf(ask("broken"))).toMatchObject({ code: "Unavailable", reason: "MIDDLEWARE_UNAVAILABLE" });
		const told = alice.messaging.send({ to: to("bob"), message: { type: "tell" } });
		expect(await failureOf(told)).toMatchObject({
			reason: "MIDDLEWARE_UNAVAILABLE",
			metadata: { middleware: "wrong" },
		});
		await alice.messaging.send({ to: to("bob"), message: { type: "ask", id: "m-1" }, durability: transient });
		await inbox.received(1);
		expect(inbox.messages()).toMatchObject([{ id: "m-1" }]);
	});

	it("that is late, throws or breaks the content rules lets pass or refuses, as it declared", async () => {
		const never = () => new Promise<MiddlewareVerdict>(() => {});
		const fails: Record<string, Middleware["inspect"]> = {
			late: never,
			throws: () => {
				throw new Error("a fault");
			},
			reserved: () => ({ kind: "change", attributes: { "hub-x": "1" } }),
			large: () => ({ kind: "change", payload: { body: { case: "binary", value: new Uint8Array(1024 * 1024 + 1) } } }),
			unbalanced: () => ({ kind: "change", payload: { body: { case: "json", value: "{" } } }),
		};
		let aborted = 0;
		const each = (onFailure: "open" | "closed") =>
			Object.entries(fails).map(([name, inspect]) =>
				middleware(
					`${name}-${onFailure}`,
					(message, context) => {
						context.signal.addEventListener("abort", () => aborted++);
						return inspect(message, context);
					},
					{ types: [`${onFailure}.${name}`], onFailure, deadlineMs: 30 },
				),
			);
		await using hub = await start({ middleware: [...each("open"), ...each("closed")] });
		const [alice, bob] = [await hub.enrol("alice"), await hub.enrol("bob")];
		const inbox = await attach(bob);
		for (const name of Object.keys(fails)) {
			const send = (how: string) =>
				alice.messaging.send({
					to: to("bob"),
					message: { type: `${how}.${name}`, payload: json("kept") },
					durability: transient,
				});
			await send("open");
			expect(await failureOf(send("closed"))).toMatchObject({
				code: "Unavailable",
				reason: "MIDDLEWARE_UNAVAILABLE",
				metadata: { middleware: `${name}-closed` },
			});
		}
		await inbox.received(5);
		for (const { payload, attributes } of inbox.messages())
			expect({ payload, attributes }).toMatchObject({ payload: json("kept"), attributes: {} });
		expect(aborted).toBe(2);
	});

	it("keeps each sender's order, whatever the verdicts take, and a request's deadline", async () => {
		const waiting: (() => void)[] = [];
		const slow = middleware("slow", () => new Promise((resolve) => waiting.push(() => resolve(pass))), {
			types: ["slow"],
			deadlineMs: 5000,
		});
		await using hub = await start({ middleware: [slow] });
		const [alice, bob] = [await hub.enrol("alice"), await hub.enrol("bob")];
		const inbox = await attach(bob);
		const entries = Array.from({ length: 20 }, (_, index) => ({
			entryId: BigInt(index),
			to: to("bob"),
			message: { type: index % 3 === 0 ? "slow" : "fast", id: String(index) },
			durability: index % 2 === 0 ? transient : Durability.DURABLE,
		}));
		const up = new Outbox({ frame: { case: "batch" as const, value: { entries } } });
		const results = new Feed(alice.messaging.sendStream(up));
		await results.when(() => waiting.length === 7);
		expect(inbox.messages()).toEqual([]);
		for (const release of waiting.toReversed()) release();
		await inbox.received(20);
		await results.when(() => results.all("results").flatMap((batch) => batch.results).length === 20);
		up.end();
		await results.ended;
		const order = (odd: boolean) =>
			inbox.messages().flatMap(({ id }) => (Number(id) % 2 === (odd ? 1 : 0) ? [Number(id)] : []));
		for (const ids of [order(false), order(true)]) expect(ids).toEqual(ids.toSorted((a, b) => a - b));
		const started = performance.now();
		const asked = alice.messaging.request({
			to: to("bob"),
			message: { type: "slow" },
			timeout: { nanos: 50_000_000 },
		});
		expect(await failureOf(asked)).toMatchObject({ reason: "DEADLINE_EXCEEDED" });
		expect(performance.now() - started).toBeLessThan(3000);
		expect(inbox.messages()).toHaveLength(20);
	});

	it("that could not work keeps the hub from starting", async () => {
		const bad: Partial<Middleware>[] = [{ name: "-" }, { deadlineMs: 5001 }, { order: 1001 }, { types: ["a.**.b"] }];
		for (const more of bad) {
			await expect(start({ middleware: [middleware("x", () => pass, more)] })).rejects.toThrow(StartError);
		}
	});
});
