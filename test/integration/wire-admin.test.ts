import { timestampMs } from "@bufbuild/protobuf/wkt";
import { expect, it } from "vitest";
import { TrustLevel } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import { failureOf } from "../harness/failure.ts";
import { describeHubs, manifestOf, TestHub } from "../harness/hub.ts";

const plugin = (value: string) => ({ case: "pluginId", value }) as const;
const DAY_MS = 86_400_000;

describeHubs("credentials", (start) => {
	it("are issued to plugins and operators, once per request", async () => {
		await using hub = await start();
		const { admin } = hub.operator;
		const trial = await admin.issueCredential({ principal: plugin("mine"), validateOnly: true });
		expect([trial.token, trial.credentialId]).toEqual(["", ""]);
		const first = await admin.issueCredential({ principal: plugin("mine"), requestId: "once" });
		expect(first).toMatchObject({ duplicate: false, token: expect.stringMatching(/^[\w-]+\.[\w-]+\.[\w-]+$/) });
		expect(Math.abs(timestampMs(first.expireTime!) - Date.now() - 30 * DAY_MS)).toBeLessThan(60_000);
		// A token is shown once.
		expect(await admin.issueCredential({ principal: plugin("mine"), requestId: "once" })).toMatchObject({
			credentialId: first.credentialId,
			token: "",
			duplicate: true,
		});
		expect(await failureOf(admin.issueCredential({ principal: plugin("other"), requestId: "once" }))).toMatchObject({
			code: "Aborted",
			reason: "ID_REUSED",
		});
		const brief = await admin.issueCredential({ principal: plugin("mine"), lifetime: { seconds: 3600n } });
		expect(Math.abs(timestampMs(brief.expireTime!) - Date.now() - 3_600_000)).toBeLessThan(60_000);

		const mine = hub.connect(first.token);
		await mine.plugins.register({ manifestJson: manifestOf("mine") });
		expect(await failureOf(mine.admin.getTrustLevel({ pluginId: "mine" }))).toMatchObject({
			code: "PermissionDenied",
			reason: "CALLER_NOT_ALLOWED",
		});
		const second = await admin.issueCredential({ principal: { case: "operatorId", value: "alice" } });
		const alice = hub.connect(second.token);
		expect((await alice.admin.getTrustLevel({ pluginId: "mine" })).trustLevel).toBe(TrustLevel.UNTRUSTED);
	});

	it("are revoked one by one or all together", async () => {
		await using hub = await start();
		const { admin } = hub.operator;
		const [one, two, three] = await Promise.all(
			[1, 2, 3].map(() => admin.issueCredential({ principal: plugin("mine") })),
		);
		const works = (token: string) => hub.connect(token).hub.getHubInfo({});
		const revoked = { code: "Unauthenticated", reason: "CREDENTIAL_REVOKED" };
		const single = { target: { case: "credentialId", value: one!.credentialId }, reason: "leaked" } as const;
		await admin.revokeCredential({ ...single, validateOnly: true });
		await works(one!.token);
		await admin.revokeCredential(single);
		expect(await failureOf(works(one!.token))).toMatchObject(revoked);
		await works(two!.token);
		await admin.revokeCredential({ target: plugin("mine") });
		for (const { token } of [two!, three!]) expect(await failureOf(works(token))).toMatchObject(revoked);
		for (const target of [single.target, plugin("mine"), { case: "credentialId", value: "nobody" } as const]) {
			expect(await failureOf(admin.revokeCredential({ target }))).toMatchObject({
				code: "NotFound",
				reason: "CREDENTIAL_NOT_FOUND",
			});
		}
		// What is issued later is not concerned.
		const { token } = await admin.issueCredential({ principal: plugin("mine") });
		await works(token);
	});
});

describeHubs("permissions and trust", (start) => {
	it("are set in an expected state, and count at once", async () => {
		await using hub = await start();
		const { admin } = hub.operator;
		expect(await admin.getPermissions({ pluginId: "mine" })).toMatchObject({ revision: 0n, ineffective: [] });
		const mine = await hub.enrol("mine", {});
		const emit = () => mine.events.emit({ event: { type: "a.b" } });
		expect(await failureOf(emit())).toMatchObject({ reason: "INSUFFICIENT_PERMISSIONS" });
		const granted = {
			pluginId: "mine",
			permissions: { emit: ["a.*"], sendTo: ["other"], stores: [{ store: "s", read: true }] },
		};
		const trial = await admin.setPermissions({ ...granted, validateOnly: true });
		expect(await failureOf(emit())).toMatchObject({ reason: "INSUFFICIENT_PERMISSIONS" });
		const { revision, permissions } = await admin.setPermissions(granted);
		expect(permissions).toMatchObject(granted.permissions);
		expect(revision).toBeGreaterThan(trial.revision);
		await emit();
		expect(await admin.getPermissions({ pluginId: "mine" })).toMatchObject({
			revision,
			permissions: granted.permissions,
		});
		const stale = { ...granted, expected: { state: { case: "revision" as const, value: trial.revision } } };
		expect(await failureOf(admin.setPermissions(stale))).toMatchObject({
			code: "Aborted",
			reason: "REVISION_MISMATCH",
			metadata: { revision: String(revision) },
		});
		const current = { state: { case: "revision" as const, value: revision } };
		await admin.setPermissions({ pluginId: "mine", permissions: {}, expected: current });
		expect(await failureOf(emit())).toMatchObject({ reason: "INSUFFICIENT_PERMISSIONS" });
	});

	it("cap each other: what a level does not allow is refused, and kept without effect", async () => {
		await using hub = await start();
		const { admin } = hub.operator;
		const set = (permissions: object) => admin.setPermissions({ pluginId: "mine", permissions });
		for (const permissions of [{ network: true }, { fileSystem: true }, { intercept: true }]) {
			expect(await failureOf(set(permissions))).toMatchObject({
				code: "FailedPrecondition",
				reason: "TRUST_TOO_LOW",
				details: expect.arrayContaining(["PreconditionFailure"]),
			});
		}
		const level = (trustLevel: TrustLevel, more: object = {}) =>
			admin.setTrustLevel({ pluginId: "mine", trustLevel, reason: "looked at", ...more });
		const trusted = await level(TrustLevel.TRUSTED);
		await set({ network: true, intercept: true, emit: ["a"] });
		expect(await admin.getPermissions({ pluginId: "mine" })).toMatchObject({ ineffective: [] });
		await level(TrustLevel.VERIFIED, { validateOnly: true });
		expect(await admin.getTrustLevel({ pluginId: "mine" })).toMatchObject({
			trustLevel: TrustLevel.TRUSTED,
			revision: trusted.revision,
		});
		await level(TrustLevel.BASIC, { expected: { state: { case: "revision", value: trusted.revision } } });
		expect(await admin.getPermissions({ pluginId: "mine" })).toMatchObject({
			permissions: { network: true, intercept: true },
			ineffective: ["intercept"],
		});
		expect(
			await failureOf(level(TrustLevel.VERIFIED, { expected: { state: { case: "absent", value: true } } })),
		).toMatchObject({
			code: "Aborted",
			reason: "REVISION_MISMATCH",
		});
	});
});

describeHubs("a hub that is started again", (start) => {
	it("knows its credentials, permissions, plugins and first answers where its state is durable", async () => {
		await using first = await start();
		const { directory, options } = first;
		const mine = await first.enrol("mine");
		await first.operator.admin.setTrustLevel({ pluginId: "mine", trustLevel: TrustLevel.BASIC });
		const emitted = await mine.events.emit({ event: { id: "e", type: "a.b" } });
		const registered = await mine.plugins.register({ manifestJson: manifestOf("mine"), requestId: "r" });
		await first.running.stop();
		if (options.state === "embedded") {
			await using again = await TestHub.start({ directory, options });
			const back = again.connect(mine.token);
			expect(await back.events.emit({ event: { id: "e", type: "a.b" } })).toMatchObject({
				duplicate: true,
				position: { ...emitted.position! },
			});
			expect(await back.plugins.register({ manifestJson: manifestOf("mine"), requestId: "r" })).toMatchObject({
				duplicate: true,
				instanceId: registered.instanceId,
			});
			expect((await again.operator.admin.getTrustLevel({ pluginId: "mine" })).trustLevel).toBe(TrustLevel.BASIC);
			expect((await back.plugins.get({ pluginId: "mine" })).plugin?.revision).toBe(registered.plugin?.revision);
		} else {
			await using again = await TestHub.start({ directory, options });
			const { eventEpoch } = await again.operator.hub.getHubInfo({});
			// What was kept in memory is gone, and says so by its epoch.
			expect(eventEpoch).not.toBe(emitted.position?.epoch);
			expect((await again.operator.plugins.list({})).plugins).toEqual([]);
		}
	});
});
