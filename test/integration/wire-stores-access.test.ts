import type { MessageInitShape } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import { expect, it } from "vitest";
import { ErrorInfoSchema, ResourceInfoSchema } from "#gen/google/rpc/error_details_pb.js";
import { type PermissionsSchema, TrustLevel } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import { randomIds, systemClock } from "../../src/clock/system-clock.ts";
import { decodeAuditRecord } from "../../src/security/audit-record.ts";
import { openMemoryState } from "../../src/state/memory/open-memory-state.ts";
import type { StateBackend } from "../../src/state/state-backend.ts";
import { failureOf } from "../harness/failure.ts";
import { type Clients, describeHubs, manifestOf, type TestHub, until } from "../harness/hub.ts";
import { expects, setOf } from "../harness/store-values.ts";

const grant = (store: string, rights: object): MessageInitShape<typeof PermissionsSchema> => ({
	stores: [{ store, ...rights }],
});
const ALL = { read: true, write: true, create: true };

/** What is said of one call of each kind that works on an existing store. */
async function said({ stores }: Clients, name: string): Promise<Record<string, string>> {
	const calls = {
		see: () => stores.getStore({ name }),
		read: () => stores.get({ store: name, key: "k" }),
		list: () => stores.list({ store: name }),
		write: () => stores.set({ set: setOf(name, "k", 1) }),
		administer: () => stores.updateStore({ name, config: {}, validateOnly: true }),
		delete: () => stores.deleteStore({ name, validateOnly: true }),
		transfer: () => stores.transferStore({ name, newOwner: "owner", validateOnly: true }),
	};
	const answers: Record<string, string> = {};
	for (const [kind, call] of Object.entries(calls)) {
		answers[kind] = await call().then(
			() => "yes",
			(error: unknown) => ConnectError.from(error).findDetails(ErrorInfoSchema)[0]?.reason ?? "?",
		);
	}
	return answers;
}

const DENIED = "INSUFFICIENT_PERMISSIONS";
const MISSING = "STORE_NOT_FOUND";
const all = (reason: string) => ({
	see: reason,
	read: reason,
	list: reason,
	write: reason,
	administer: reason,
	delete: reason,
	transfer: reason,
});

async function shared(hub: TestHub, config: object): Promise<Clients> {
	const owner = await hub.enrol("owner");
	await owner.stores.createStore({ name: "s", config });
	await owner.stores.set({ set: setOf("s", "k", 0) });
	return owner;
}

describeHubs("who may do what with a store", (start) => {
	it("is decided by the grant and the lists together", async () => {
		await using hub = await start();
		const owner = await shared(hub, {
			read: { plugins: ["reader", "everything", "no-grant"] },
			write: { plugins: ["writer", "everything"] },
			admin: { plugins: ["admin", "everything"] },
		});
		const yes = all("yes");
		expect(await said(owner, "s")).toEqual(yes);
		const reader = await hub.enrol("reader");
		const denied = all(DENIED);
		expect(await said(reader, "s")).toEqual({ ...denied, see: "yes", read: "yes", list: "yes" });
		expect(await said(await hub.enrol("writer"), "s")).toEqual({ ...denied, see: "yes", write: "yes" });
		expect(await said(await hub.enrol("admin"), "s")).toEqual({ ...denied, see: "yes", administer: "yes" });
		const rest = { delete: DENIED, transfer: DENIED };
		expect(await said(await hub.enrol("everything"), "s")).toEqual({ ...yes, ...rest });
		expect(await said(await hub.enrol("stranger"), "s")).toEqual(all(MISSING));
		expect(await said(await hub.enrol("no-grant", {}), "s")).toEqual(denied);
		const readOnly = await hub.enrol("read-only", grant("s", { read: true }));
		expect(await said(readOnly, "s")).toEqual({ ...denied, see: MISSING, read: MISSING, list: MISSING });
		expect(await failureOf(readOnly.stores.createStore({ name: "mine" }))).toMatchObject({
			code: "PermissionDenied",
			reason: DENIED,
		});
	});

	it("counts a grant to create as all grants on a store of one's own", async () => {
		await using hub = await start();
		const maker = await hub.enrol("maker", grant("mine", { create: true }));
		await maker.stores.createStore({ name: "mine" });
		expect(await failureOf(maker.stores.createStore({ name: "other" }))).toMatchObject({ reason: DENIED });
		await maker.stores.set({ set: setOf("mine", "k", 1) });
		const answers = await said(maker, "mine");
		expect(answers).toEqual({ ...all("yes"), transfer: "PLUGIN_NOT_FOUND" });
		await hub.operator.admin.setPermissions({ pluginId: "maker", permissions: {} });
		expect(await said(maker, "mine")).toEqual(all(DENIED));
	});

	it("asks for trust, in a grant and in a list", async () => {
		await using hub = await start();
		const owner = await shared(hub, {
			read: { plugins: ["*"], minTrustLevel: TrustLevel.TRUSTED },
			write: { plugins: ["*"], minTrustLevel: TrustLevel.BASIC },
		});
		const plugin = await hub.enrol("plugin");
		const trust = (trustLevel: TrustLevel) => hub.operator.admin.setTrustLevel({ pluginId: "plugin", trustLevel });
		expect(await said(plugin, "s")).toEqual(all(MISSING));
		await trust(TrustLevel.BASIC);
		expect(await said(plugin, "s")).toEqual({
			...all(DENIED),
			see: "yes",
			write: "yes",
			read: "INSUFFICIENT_TRUST_LEVEL",
			list: "INSUFFICIENT_TRUST_LEVEL",
		});
		await trust(TrustLevel.TRUSTED);
		expect(await said(plugin, "s")).toMatchObject({ read: "yes", write: "yes" });
		const permissions = grant("s", { ...ALL, requiresTrust: true });
		await hub.operator.admin.setPermissions({ pluginId: "plugin", permissions });
		expect(await said(plugin, "s")).toMatchObject({ read: "yes" });
		await trust(TrustLevel.BASIC);
		expect(await said(plugin, "s")).toEqual(all("INSUFFICIENT_TRUST_LEVEL"));
		expect(await said(plugin, "nothing")).toEqual(all(DENIED));
		expect(await said(owner, "s")).toMatchObject(all("yes"));
	});

	it("lets categories through as plugins register them", async () => {
		await using hub = await start();
		await shared(hub, { read: { categories: ["weather"] } });
		const plugin = await hub.enrol("plugin");
		expect(await said(plugin, "s")).toMatchObject({ read: MISSING });
		const manifest = { ...JSON.parse(manifestOf("plugin")), category: "weather" };
		await plugin.plugins.update({ manifestJson: JSON.stringify(manifest) });
		await until(async () => (await said(plugin, "s")).read === "yes");
		expect(await said(plugin, "s")).toMatchObject({ see: "yes", write: DENIED });
	});
});

/** The records of a log of the hub's audit. */
async function audited(state: StateBackend, name: "audit-denials" | "audit-changes") {
	const log = await state.log(name);
	const { first, next } = log.bounds();
	if (first === next) return [];
	const page = await log.read({ from: { sequence: first }, maxRecords: 1000, maxBytes: 1 << 20 });
	return page.records.map(({ bytes }) => decodeAuditRecord(bytes));
}

describeHubs("a store that the caller may not know of", (start) => {
	it("looks like one that does not exist: code, message, details, audit and metrics", async () => {
		const state = openMemoryState({ clock: systemClock, ids: randomIds });
		await using hub = await start({ state });
		await hub.enrol("other-owner");
		const owner = await hub.enrol("owner");
		await owner.stores.createStore({ name: "hidden", config: { read: { plugins: ["other-owner"] } } });
		await owner.stores.set({ set: setOf("hidden", "k", 1) });
		const spy = await hub.enrol("spy");
		const calls = ({ stores }: Clients, name: string): Promise<unknown>[] => [
			stores.getStore({ name }),
			stores.updateStore({ name, config: {} }),
			stores.deleteStore({ name }),
			stores.deleteStore({ name, validateOnly: true, expected: expects.absent, requestId: "x" }),
			stores.transferStore({ name, newOwner: "spy" }),
			stores.transferStore({ name, newOwner: "nobody-there" }),
			stores.get({ store: name, key: "k" }),
			stores.set({ set: setOf(name, "k", 1, { expected: expects.absent }) }),
			stores.delete({ delete: { store: name, key: "k" } }),
			stores.increment({ increment: { store: name, key: "k", delta: 1n } }),
			stores.append({ append: { store: name, key: "k", elementJson: "1" } }),
			stores.list({ store: name }),
			stores.listHistory({ store: name, key: "k" }),
			stores.transact({ checks: [{ store: name, key: "k", expected: expects.any }] }),
			stores.transact({ writes: [{ write: { case: "set", value: setOf(name, "k", 1) } }] }),
		];
		const heard = async (name: string) => {
			const errors: object[] = [];
			for (const call of calls(spy, name)) {
				const error = ConnectError.from(await call.catch((thrown: unknown) => thrown));
				expect(error.rawMessage).toBe(`there is no store "${name}"`);
				const details = error.details.map((each) => ("type" in each ? each.type : ""));
				errors.push({
					code: error.code,
					message: error.rawMessage.replaceAll(name, "NAME"),
					details,
					info: JSON.stringify(error.findDetails(ErrorInfoSchema)).replaceAll(name, "NAME"),
					resource: JSON.stringify(error.findDetails(ResourceInfoSchema)).replaceAll(name, "NAME"),
				});
			}
			return errors;
		};
		const metrics = async () => {
			const text = await (await fetch(`${hub.url}/metrics`, { headers: { connection: "close" } })).text();
			return text.split("\n").filter((line) => line.startsWith("hub_store"));
		};
		const shape = (name: string) => async () => {
			const records = await audited(state, "audit-denials");
			return records
				.filter(({ target }) => target === `store:${name}`)
				.map(({ id: _, time: _time, requestId: _request, ...rest }) => JSON.stringify(rest).replaceAll(name, "NAME"));
		};
		const before = await metrics();
		const ofHidden = await heard("hidden");
		expect(ofHidden).toEqual(await heard("no-such"));
		await until(async () => (await shape("no-such")()).length === ofHidden.length);
		expect(await shape("hidden")()).toEqual(await shape("no-such")());
		expect(await metrics()).toEqual(before);
		expect(before.some((line) => line.includes("no-such"))).toBe(false);
	});

	it("judges a change at its turn, behind the one that takes the right to it away", async () => {
		await using hub = await start();
		const owner = await hub.enrol("owner");
		await hub.enrol("heir");
		for (const persistent of [true, false]) {
			const name = persistent ? "kept" : "volatile";
			await owner.stores.createStore({ name, config: { persistent } });
			const [given, updated, deleted] = await Promise.allSettled([
				owner.stores.transferStore({ name, newOwner: "heir" }),
				owner.stores.updateStore({ name, config: { description: "still mine" } }),
				owner.stores.deleteStore({ name }),
			]);
			expect(given.status).toBe("fulfilled");
			for (const late of [updated, deleted]) {
				expect(late.status === "rejected" && (await failureOf(Promise.reject(late.reason))).reason).toBe(
					"STORE_NOT_FOUND",
				);
			}
			const { store } = await hub.operator.stores.getStore({ name });
			expect(store).toMatchObject({ owner: "heir", config: { description: "" } });
		}
	});

	it("audits what changes stores, in their own commit, with who and what", async () => {
		const state = openMemoryState({ clock: systemClock, ids: randomIds });
		await using hub = await start({ state });
		const { stores } = await hub.enrol("owner");
		await hub.enrol("heir");
		for (const persistent of [true, false]) {
			const name = persistent ? "kept" : "volatile";
			await stores.createStore({ name, config: { persistent } });
			await stores.createStore({ name }).catch(() => {});
			await stores.updateStore({ name, config: {}, validateOnly: true });
			await stores.updateStore({ name, config: { history: 2 } });
			await stores.transferStore({ name, newOwner: "heir" });
			await hub.operator.stores.deleteStore({ name });
		}
		const changes = (await audited(state, "audit-changes")).filter(({ event }) => event.startsWith("store_"));
		const expected = (name: string) => [
			{ event: "store_created", actor: "plugin:owner", target: `store:${name}` },
			{ event: "store_updated", actor: "plugin:owner", target: `store:${name}` },
			{ event: "store_transferred", actor: "plugin:owner", target: `store:${name}`, details: { new_owner: "heir" } },
			{ event: "store_deleted", actor: "operator:root", target: `store:${name}` },
		];
		expect(changes).toMatchObject([...expected("kept"), ...expected("volatile")]);
	});
});
