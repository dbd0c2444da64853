import { create } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import { RouteSchema } from "#gen/qirvo/hub/v1/routes_pb.js";
import { FirstAnswers } from "../../src/idempotency/first-answers.ts";
import { Routes } from "../../src/messaging/routes.ts";
import { VolatileKvStore } from "../../src/state/volatile-kv-store.ts";
import { FakeClock, SequentialIds } from "../harness/fake-clock.ts";
import { until } from "../harness/hub.ts";

const change = (also: { key: string; value: Uint8Array }[] = []) =>
	({ expected: { kind: "any" }, validateOnly: false, also }) as const;
const redirect = (name: string, from: string, to: string) =>
	create(RouteSchema, {
		name,
		match: { address: { case: "recipient", value: from } },
		action: { case: "redirect", value: to },
	});

function world() {
	const clock = new FakeClock();
	const kv = new VolatileKvStore(clock);
	const open = (node: string) => {
		const ids = new SequentialIds(node);
		return new Routes({ kv, answers: new FirstAnswers({ kv, clock, ids }), clock, ids });
	};
	return { kv, open };
}

it("routes that another hub changes are in force here", async () => {
	const { open } = world();
	await using here = open("here-");
	await using there = open("there-");
	here.start();
	there.start();
	expect(here.table.isEmpty).toBe(true);
	await there.put(redirect("one", "a", "b"), change());
	await until(() => !here.table.isEmpty);
	await there.delete("one", change());
	await until(() => here.table.isEmpty);
});

it("two changes at a time cannot make a circle, and a change takes its further writes along or makes none", async () => {
	const { kv, open } = world();
	await using here = open("here-");
	await using there = open("there-");
	const also = (key: string) => [{ key, value: new Uint8Array([1]) }];
	const both = await Promise.allSettled([
		here.put(redirect("one", "a", "b"), change(also("outbox/audit/1"))),
		there.put(redirect("two", "b", "a"), change(also("outbox/audit/2"))),
	]);
	expect(both.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
	const written = ["outbox/audit/1", "outbox/audit/2"].filter((key) => kv.get(key) !== undefined);
	expect(written).toHaveLength(1);
});
