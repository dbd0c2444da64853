/**
 * Writes transactions to a store on the state in the folder given, several in flight, and tells each acknowledgement in a line
 * on standard output. Run by the crash test, which kills it. Usage: node store-crash-writer.ts folder cycle
 */
import { writeSync } from "node:fs";
import { create, toBinary } from "@bufbuild/protobuf";
import { PayloadSchema } from "#gen/qirvo/hub/v1/payload_pb.js";
import { systemClock as clock, randomIds as ids } from "../../src/clock/system-clock.ts";
import { FirstAnswers } from "../../src/idempotency/first-answers.ts";
import { openEmbeddedState } from "../../src/state/embedded/open-embedded-state.ts";
import { NO_VALIDATORS } from "../../src/stores/entry-validators.ts";
import type { EntryWrite } from "../../src/stores/entry-write.ts";
import { Stores } from "../../src/stores/stores.ts";

const [, , directory, cycle] = process.argv;
if (directory === undefined || cycle === undefined) throw new Error("usage: store-crash-writer.ts folder cycle");

const IN_FLIGHT = 16;
/** Transactions come back to these, so that entries are replaced, too. */
const SLOTS = 40;
const state = await openEmbeddedState({ directory, clock, ids });
const answers = new FirstAnswers({ kv: state.kv, clock, ids });
const volatileAnswers = new FirstAnswers({ kv: state.volatileKv, clock, ids });
const stores = new Stores({
	state,
	answers,
	volatileAnswers,
	clock,
	ids,
	leases: { isLive: () => true, onEnd: () => ({ [Symbol.dispose]() {} }) },
	compile: () => NO_VALIDATORS,
	onFault: (_what, error) => console.error(error),
});
await stores.start();
/** Keeps the process alive while nothing but the database has work, as a hub's sockets do. */
setInterval(() => {}, 60_000);
const store =
	stores.definitions.find("s") ??
	(await stores.definitions.create("s", "p", undefined, { expected: { kind: "any" }, validateOnly: false, also: [] }))
		.store;

/** Two entries with one value, and a count of transactions. */
function transact(number: number): void {
	const slot = number % SLOTS;
	const text = JSON.stringify(`${cycle}/${number}/${"y".repeat((number * 17) % 400)}`);
	const value = toBinary(PayloadSchema, create(PayloadSchema, { body: { case: "json", value: text } }));
	const put = (key: string): EntryWrite => ({
		kind: "set",
		store,
		key,
		value,
		expected: { kind: "any" },
		ttlMs: undefined,
		instanceId: "",
		returnPrevious: false,
	});
	const writes: EntryWrite[] = [
		put(`left/${slot}`),
		put(`right/${slot}`),
		{ kind: "increment", store, key: `count/${slot}`, delta: 1n, ttlMs: undefined },
	];
	stores.submit({ writer: "p", checks: [], writes, transactionId: "t" }, (written, error) => {
		if (written === undefined) throw error;
		const [left, , count] = written.results;
		writeSync(1, `wrote ${slot} ${left!.revision} ${count!.number}\n`);
		setImmediate(transact, number + IN_FLIGHT);
	});
}

for (let number = 0; number < IN_FLIGHT; number++) transact(number);
