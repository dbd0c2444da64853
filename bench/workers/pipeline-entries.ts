// Arguments: address of a hub, token. Takes { kind, from, count, window, batch }, answers { ms }: the hub's `Pipeline` without the
// SDK, frames of `batch` operations that are written and read in wire form.
import { createClient } from "@connectrpc/connect";
import { StoreService } from "#gen/qirvo/hub/v1/store_service_pb.js";
import { createLeanTransport } from "../../src/client/index.ts";
import { WireReader } from "../../src/wire/wire-reader.ts";
import { WireWriter } from "../../src/wire/wire-writer.ts";
import { answerRounds, checkValue, type EntryCommand, keyOf, STORE } from "./entry-rounds.ts";
import { headersOf } from "./hub-client.ts";
import { payloadBytes } from "./payload.ts";
import { Window } from "./window.ts";

const [url, token] = process.argv.slice(2) as [string, string];
const transport = createLeanTransport({ url });
await createClient(StoreService, transport).createStore({ name: STORE }, headersOf(token));

const raw = { ...StoreService.method.pipeline, encode: same, decode: same };

function same(bytes: Uint8Array): Uint8Array {
	return bytes;
}

/** Frames of operations, whose ids are their numbers. */
async function* frames({ kind, from, count, batch }: EntryCommand, window: Window): AsyncGenerator<never> {
	for (let first = from; first < from + count; first += batch) {
		const room = window.enter();
		if (room) await room;
		const end = Math.min(first + batch, from + count);
		const frame = new WireWriter(batch * 256);
		for (let number = first; number < end; number++) frame.bytes(1, operation(kind, number));
		yield frame.finish() as never;
	}
}

/** A `PipelineOperation`. */
function operation(kind: EntryCommand["kind"], number: number): Uint8Array {
	const body = new WireWriter(256);
	body.string(1, STORE);
	body.string(2, keyOf(number));
	if (kind === "set") {
		const value = payloadBytes(number);
		// A payload of bytes: a tag, a length of two bytes and the bytes.
		body.header(3, value.byteLength + 3);
		body.bytes(2, value);
	}
	const encoded = new WireWriter(256);
	encoded.varint(1, number);
	encoded.bytes(kind === "set" ? 3 : 2, body.finish());
	return encoded.finish();
}

/** Looks at each result of a `PipelineResponse` that has some; gives how many there were. */
function check(response: Uint8Array): number {
	const reader = new WireReader(response);
	if (reader.next() !== 2) return 0;
	const results = reader.nested();
	let count = 0;
	for (; results.next() !== 0; count++) checkResult(results.nested());
	return count;
}

function checkResult(result: WireReader): void {
	let id = 0;
	for (let field = result.next(); field !== 0; field = result.next()) {
		if (field === 1) id = Number(result.uint64());
		else if (field === 2) checkValue(payloadOfEntry(result.nested()), id);
		else if (field === 3) result.skip();
		else throw new Error(`operation ${id} failed`);
	}
}

/** The bytes of an `Entry`'s payload. */
function payloadOfEntry(entry: WireReader): Uint8Array | undefined {
	for (let field = entry.next(); field !== 0; field = entry.next()) {
		if (field !== 2) {
			entry.skip();
			continue;
		}
		const payload = entry.nested();
		return payload.next() === 2 ? payload.view() : undefined;
	}
	return undefined;
}

await answerRounds(async (command) => {
	const window = new Window(command.window / command.batch);
	const { headers } = headersOf(token);
	const start = performance.now();
	const { message } = await transport.stream(raw, undefined, undefined, headers, frames(command, window));
	let answered = 0;
	let left = 0;
	for await (const response of message) {
		const results = check(response as unknown as Uint8Array);
		answered += results;
		for (left += results; left >= command.batch; left -= command.batch) window.leave();
	}
	const ms = performance.now() - start;
	if (answered !== command.count) throw new Error(`${answered} operations of ${command.count} were answered`);
	return ms;
});
