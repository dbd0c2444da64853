import { expect, test } from "vitest";
import type { HubError } from "../../src/hub-error.ts";
import { parseMessage } from "../../src/messaging/message-draft.ts";
import { MiddlewareChain } from "../../src/messaging/middleware-chain.ts";
import { WireWriter } from "../../src/wire/wire-writer.ts";
import { FakeClock, SequentialIds } from "../harness/fake-clock.ts";

const MIB = 1024 * 1024;

/** A chain in which nobody ever judges, and a message of each sender on its way through it. */
function silent() {
	const clock = new FakeClock();
	const chain = new MiddlewareChain({ clock, ids: new SequentialIds(), checkContent: () => undefined });
	chain.add({
		id: "silent",
		name: "silent",
		order: 0,
		deadlineMs: 1000,
		failsOpen: false,
		admits: () => true,
		inspect: () => () => {},
	});
	const refusals: HubError[] = [];
	/** False: it is refused at once. */
	const send = (source: string, bytes: number): boolean => {
		const payload = new WireWriter();
		payload.bytes(2, new Uint8Array(bytes));
		const wire = new WireWriter();
		wire.string(2, "news");
		wire.bytes(10, payload.finish());
		const draft = parseMessage(wire.finish(), source, "message", "transient");
		try {
			chain.inspect({ draft, source, recipient: "bob", deadline: undefined })?.catch(() => {});
			return true;
		} catch (error) {
			refusals.push(error as HubError);
			return false;
		}
	};
	const fill = (source: string, bytes: number): number => {
		let sent = 0;
		while (send(source, bytes)) sent++;
		return sent;
	};
	return { clock, chain, refusals, send, fill };
}

test("a sender whose messages nobody judges leaves room for those of others", async () => {
	const { clock, chain, refusals, send, fill } = silent();
	const many = fill("loud", 100);
	expect(many).toBeGreaterThan(5000);
	expect(refusals).toMatchObject([{ reason: "LIMIT_EXCEEDED", options: { quota: { subject: "plugin:loud" } } }]);
	const rest = fill("quiet", 100);
	expect(rest).toBeGreaterThan(500);
	expect(many + rest).toBeLessThan(10_000);
	expect(send("quieter", 100)).toBe(true);
	expect(send("loud", 100)).toBe(false);
	await clock.advance(1000);
	expect(chain.size).toBe(0);
	expect(send("loud", 100)).toBe(true);
	chain[Symbol.dispose]();
});

test("large messages are bounded by their bytes", () => {
	const { chain, fill } = silent();
	const loud = fill("loud", MIB - 1000);
	const quiet = fill("quiet", MIB - 1000);
	expect(loud).toBeGreaterThan(16);
	expect(quiet).toBeGreaterThan(1);
	expect(2 * (loud + quiet)).toBeLessThanOrEqual(64);
	chain[Symbol.dispose]();
});
