import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { StorageError } from "../../src/state/kv-store.ts";
import { VolatileKvStore } from "../../src/state/volatile-kv-store.ts";
import { durable, idsOf, seconds, take } from "../harness/durable-send.ts";
import { FakeClock } from "../harness/fake-clock.ts";
import { MessagingRig } from "../harness/messaging-rig.ts";
import { refusal } from "../harness/refusal.ts";
import { settled } from "../harness/settled.ts";

const clock = () => rig.clock;
let rig: MessagingRig;
let kv: VolatileKvStore;

beforeEach(() => {
	const clock = new FakeClock();
	kv = new VolatileKvStore(clock);
	rig = new MessagingRig({ clock, kv });
});

afterEach(() => rig[Symbol.dispose]());

/** The hub ends and another one begins on the same store. */
function restart(): void {
	rig[Symbol.dispose]();
	rig = new MessagingRig({ clock: rig.clock, kv });
}

describe("dead letters", () => {
	/** Sends and terminates so many messages. */
	async function bury(count: number): Promise<string[]> {
		const bob = await rig.attach("bob");
		for (let i = 0; i < count; i++) {
			await rig.send("alice", durable("bob", { id: `dead-${i}`, ttl: seconds(60) }));
			bob.terminate((await take(bob)).deliveryId, "cannot be read");
			await settled();
			await clock().advance(1);
		}
		bob.vanish();
		await settled();
		return (await rig.deadLetters("listDeadLetters", "bob", {})).deadLetters.map(({ id }) => id);
	}

	test("are listed oldest first, page by page, and shown with their payload one by one", async () => {
		const ids = await bury(5);
		const first = await rig.deadLetters("listDeadLetters", "", { pageSize: 3 });
		const second = await rig.deadLetters("listDeadLetters", "", { pageSize: 3, pageToken: first.nextPageToken });
		expect([...first.deadLetters, ...second.deadLetters].map(({ message }) => message!.id)).toEqual([
			"dead-0",
			"dead-1",
			"dead-2",
			"dead-3",
			"dead-4",
		]);
		expect(second.nextPageToken).toBe("");
		const { deadLetter } = await rig.deadLetters("getDeadLetter", "bob", { id: ids[1]! });
		expect(deadLetter).toMatchObject({ reason: "terminated: cannot be read", pluginId: "bob" });
		expect(deadLetter!.message!.payload!.body.value).toBe("1");
	});

	test("are seen by their plugin and operators only", async () => {
		const [id = ""] = await bury(1);
		expect((await rig.deadLetters("listDeadLetters", "alice", {})).deadLetters).toEqual([]);
		for (const method of ["getDeadLetter", "listDeadLetters"] as const) {
			const error = await refusal(rig.deadLetters(method, "alice", { pluginId: "bob", id } as never));
			expect(error.reason).toBe("CALLER_NOT_ALLOWED");
		}
		expect((await refusal(rig.deadLetters("getDeadLetter", "alice", { id }))).reason).toBe("DEAD_LETTER_NOT_FOUND");
		expect((await refusal(rig.deadLetters("getDeadLetter", "", { id }))).metadata.field).toBe("plugin_id");
	});

	test("are put back once, as new messages, in their order", async () => {
		const ids = await bury(3);
		const twice = await Promise.all([
			rig.deadLetters("redriveDeadLetters", "bob", { all: true }),
			rig.deadLetters("redriveDeadLetters", "bob", { ids }),
		]);
		expect(twice[0]!.ids).toEqual(ids);
		expect(twice[1]!.ids).toEqual([]);
		expect(twice[1]!.failures.map(({ error }) => error!.reason)).toEqual(Array(3).fill("DEAD_LETTER_NOT_FOUND"));
		restart();
		const bob = await rig.attach("bob");
		const deliveries = await bob.deliveries();
		expect(idsOf(deliveries)).toEqual(["dead-0", "dead-1", "dead-2"]);
		expect(deliveries.map(({ message }) => message!.attempt)).toEqual([1, 1, 1]);
		expect((await rig.deadLetters("listDeadLetters", "bob", {})).deadLetters).toEqual([]);
		bob.vanish();
	});

	test("stay where they cannot be put back", async () => {
		const [id = ""] = await bury(1);
		rig.plugins.set("bob", "disabled");
		const refused = await rig.deadLetters("redriveDeadLetters", "", { pluginId: "bob", ids: [id] });
		expect(refused.failures.map(({ error }) => error!.reason)).toEqual(["PLUGIN_DISABLED"]);
		rig.plugins.set("bob", "present");
		const commit = kv.commit.bind(kv);
		kv.commit = () => Promise.reject(new StorageError("full", "not-written", "the disk is full"));
		const { failures } = await rig.deadLetters("redriveDeadLetters", "bob", { ids: [id] });
		expect(failures.map(({ error }) => error!.reason)).toEqual(["STORAGE_FULL"]);
		kv.commit = commit;
		expect((await rig.deadLetters("redriveDeadLetters", "bob", { ids: [id] })).ids).toEqual([id]);
	});

	test("are deleted one by one or all", async () => {
		const ids = await bury(4);
		const some = await rig.deadLetters("deleteDeadLetters", "bob", { ids: [ids[1]!, "no-such"] });
		expect(some.ids).toEqual([ids[1]]);
		expect(some.failures.map(({ id }) => id)).toEqual(["no-such"]);
		restart();
		const rest = await rig.deadLetters("deleteDeadLetters", "bob", { all: true });
		expect(rest).toMatchObject({ ids: [ids[0], ids[2], ids[3]], more: false });
		expect(rig.letters.size).toBe(0);
		for (const request of [{}, { ids, all: true }]) {
			expect((await refusal(rig.deadLetters("deleteDeadLetters", "bob", request))).metadata.field).toBe("ids");
		}
	});
});
