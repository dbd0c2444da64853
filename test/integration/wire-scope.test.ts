import { expect, it } from "vitest";
import { failureOf } from "../harness/failure.ts";
import { describeHubs, until } from "../harness/hub.ts";

describeHubs("what belongs to another plugin", (start) => {
	it("is refused to a plugin, and that is recorded", async () => {
		await using hub = await start({ readsAudit: true });
		const [mine] = [await hub.enrol("mine"), await hub.enrol("other")];
		const other = { pluginId: "other" };
		const { messaging, events } = mine;
		const asked: [string, () => Promise<unknown>][] = [
			["topic subscriptions", () => messaging.listTopicSubscriptions(other)],
			["dead letters", () => messaging.listDeadLetters(other)],
			["dead letters", () => messaging.getDeadLetter({ ...other, id: "1" })],
			["dead letters", () => messaging.redriveDeadLetters({ ...other, all: true })],
			["dead letters", () => messaging.deleteDeadLetters({ ...other, all: true })],
			["subscriptions", () => events.listSubscriptions(other)],
			["durable subscriptions", () => events.listDurableSubscriptions(other)],
			["durable subscriptions", () => events.getDurableSubscription({ ...other, name: "n" })],
			["durable subscriptions", () => events.deleteDurableSubscription({ ...other, name: "n" })],
			["durable subscriptions", () => events.resetDurableSubscription({ ...other, name: "n" })],
		];
		for (const [, refused] of asked) {
			expect(await failureOf(refused())).toMatchObject({
				reason: "CALLER_NOT_ALLOWED",
				metadata: { field: "plugin_id" },
			});
		}
		const denials = async () => {
			const records = await hub.recorded("denials");
			return records.filter(({ event }) => event === "data_access_denied");
		};
		await until(async () => (await denials()).length === asked.length);
		const records = await denials();
		expect(records.map(({ target }) => target).toSorted()).toEqual(asked.map(([things]) => things).toSorted());
		for (const record of records) expect(record).toMatchObject({ actor: "plugin:mine", reason: "caller_not_allowed" });
	});

	it("has to be named by an operator who is to get or change it", async () => {
		await using hub = await start();
		const { messaging, events } = hub.operator;
		expect(await messaging.listDeadLetters({})).toMatchObject({ deadLetters: [] });
		expect(await events.listDurableSubscriptions({})).toMatchObject({ subscriptions: [] });
		for (const refused of [
			messaging.getDeadLetter({ id: "1" }),
			messaging.deleteDeadLetters({ all: true }),
			events.getDurableSubscription({ name: "n" }),
			events.deleteDurableSubscription({ name: "n" }),
		]) {
			expect(await failureOf(refused)).toMatchObject({ reason: "INVALID_FIELD", metadata: { field: "plugin_id" } });
		}
	});
});
