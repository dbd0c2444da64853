import fc from "fast-check";
import { expect, test } from "vitest";
import type { AcceptedMessage } from "../../src/messaging/accepted-message.ts";
import { type IdHandle, SenderIds } from "../../src/messaging/sender-ids.ts";

const operation = fc.record({
	kind: fc.constantFrom("add", "add", "add", "add", "delete", "stale", "answer", "refuse", "repeat"),
	id: fc.nat(120),
	digest: fc.constantFrom("one", "other"),
});

test("the ids of a sender are those of a map, whatever was added, answered and deleted", () => {
	fc.assert(
		fc.property(fc.array(operation, { maxLength: 600 }), fc.nat(), (operations, seed) => {
			let emptied = 0;
			const ids = new SenderIds("alice", seed, () => emptied++);
			const known = new Map<string, { handle: IdHandle; digest: string; answered: boolean; waiting: number }>();
			let told = 0;
			let expected = 0;
			const listener = (accepted: AcceptedMessage | undefined) => {
				if (accepted !== undefined) expect(accepted.duplicate).toBe(true);
				told++;
			};
			let timesEmpty = 0;
			const forget = (id: string) => {
				known.delete(id);
				if (known.size === 0) timesEmpty++;
			};
			for (const [index, { kind, id: number, digest }] of operations.entries()) {
				const id = `id-${number}`;
				const entry = known.get(id);
				if (kind === "add") {
					if (entry !== undefined) continue;
					const handle = ids.add({ id, digest, sequence: index + 1 }, false);
					known.set(id, { handle, digest, answered: false, waiting: 0 });
				} else if (entry === undefined || kind === "stale") {
					// What another message has the id of since.
					ids.delete(ids.handleOf(id, 1_000_000 + index));
				} else if (kind === "delete") {
					if (entry.waiting > 0) continue;
					ids.delete(entry.handle);
					forget(id);
				} else if (kind === "refuse") {
					expected += entry.waiting;
					for (const told of ids.refuse(entry.handle)) told(undefined, new Error("refused"));
					forget(id);
				} else if (kind === "answer") {
					expected += entry.waiting;
					entry.waiting = 0;
					entry.answered = true;
					ids.answer(entry.handle, id, "delivered");
				} else {
					ids.repeat(ids.find(id), id, listener);
					if (entry.answered) expected++;
					else entry.waiting++;
				}
				expect(told).toBe(expected);
			}
			expect(emptied).toBe(timesEmpty);
			for (let number = 0; number <= 120; number++) {
				const entry = known.get(`id-${number}`);
				const cell = ids.find(`id-${number}`);
				expect(cell >= 0).toBe(entry !== undefined);
				if (entry === undefined) continue;
				expect(ids.sequence(cell)).toBe(entry.handle.sequence);
				expect(ids.isSame(cell, entry.digest)).toBe(true);
				expect(ids.isSame(cell, entry.digest === "one" ? "other" : "one")).toBe(false);
			}
		}),
	);
});
