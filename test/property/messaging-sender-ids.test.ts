import fc from "fast-check";
import { expect, test } from "vitest";
import type { AcceptedMessage } from "../../src/messaging/accepted-message.ts";
import { SenderIds } from "../../src/messaging/sender-ids.ts";

const operation = fc.record({
	kind: fc.constantFrom("add", "add", "add", "delete", "hide", "answer", "refuse", "repeat"),
	id: fc.nat(40),
	digest: fc.constantFrom("one", "other"),
});

test("the ids of a sender are those of a map, whatever was added, hidden and deleted", () => {
	fc.assert(
		fc.property(fc.array(operation, { maxLength: 400 }), fc.nat(), (operations, seed) => {
			let emptied = 0;
			const ids = new SenderIds("alice", seed, () => emptied++);
			const known = new Map<string, { place: number; digest: string; answered: boolean; waiting: number }>();
			const hidden: number[] = [];
			let told = 0;
			let expected = 0;
			const listener = (accepted: AcceptedMessage | undefined) => {
				if (accepted !== undefined) expect(accepted.duplicate).toBe(true);
				told++;
			};
			let held = 0;
			let timesEmpty = 0;
			const gone = () => {
				held--;
				if (held === 0) timesEmpty++;
			};
			for (const [index, { kind, id: number, digest }] of operations.entries()) {
				const id = `id-${number}`;
				const entry = known.get(id);
				if (kind === "add") {
					if (entry !== undefined) continue;
					const place = ids.add({ id, digest, sequence: index, acceptTime: index + 1 }, false);
					known.set(id, { place, digest, answered: false, waiting: 0 });
					held++;
				} else if (entry === undefined) {
					const oldest = hidden.shift();
					if (oldest === undefined) continue;
					ids.delete(oldest);
					gone();
				} else if (kind === "delete") {
					if (entry.waiting > 0) continue;
					ids.delete(entry.place);
					known.delete(id);
					gone();
				} else if (kind === "hide") {
					if (entry.waiting > 0) continue;
					ids.hide(entry.place);
					known.delete(id);
					hidden.push(entry.place);
				} else if (kind === "refuse") {
					expected += entry.waiting;
					known.delete(id);
					ids.refuse(entry.place, new Error("refused"));
					gone();
				} else if (kind === "answer") {
					expected += entry.waiting;
					entry.waiting = 0;
					entry.answered = true;
					ids.answer(entry.place, id, "delivered");
				} else {
					ids.repeat(entry.place, id, listener);
					if (entry.answered) expected++;
					else entry.waiting++;
				}
				expect(told).toBe(expected);
			}
			expect(emptied).toBe(timesEmpty);
			for (let number = 0; number <= 40; number++) {
				const entry = known.get(`id-${number}`);
				expect(ids.find(`id-${number}`)).toBe(entry?.place ?? -1);
				if (entry === undefined) continue;
				expect(ids.isSame(entry.place, entry.digest)).toBe(true);
				expect(ids.isSame(entry.place, entry.digest === "one" ? "other" : "one")).toBe(false);
				expect(ids.acceptTime(entry.place)).toBe(ids.sequence(entry.place) + 1);
			}
		}),
	);
});
