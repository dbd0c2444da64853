import type { MessageInitShape } from "@bufbuild/protobuf";
import { expect, it, test } from "vitest";
import type { AttachRequestSchema } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { TrustLevel } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import { type EveryStream, openEveryStream } from "../harness/every-stream.ts";
import { failureOf } from "../harness/failure.ts";
import { Feed } from "../harness/feed.ts";
import { ALL_GRANTS, describeHubs, type TestHub, until } from "../harness/hub.ts";
import { Outbox } from "../harness/outbox.ts";
import { SkippingClock, UNHURRIED } from "../harness/skipping-clock.ts";

const KINDS = ["subscribe", "emitStream", "sendStream", "attach", "receive", "watch"] as const;
type Kind = (typeof KINDS)[number];

let marks = 0;

/** Uses every stream but the excepted ones, and waits until each has done its work. */
async function expectAlive(
	hub: TestHub,
	pluginId: string,
	streams: EveryStream,
	except: readonly Kind[] = [],
): Promise<void> {
	const { feeds, batches, entries } = streams;
	const mark = `mark${++marks}`;
	const lives = (kind: Kind) => !except.includes(kind);
	batches.push({ batchId: BigInt(marks), events: [{ type: "a.b", subject: mark }] });
	entries.push({
		frame: {
			case: "batch",
			value: {
				entries: [1, 2].map((entryId) => ({
					entryId: BigInt(entryId),
					to: { target: { case: "pluginId", value: pluginId } as const },
					message: { type: "x.y", attributes: { mark } },
					durability: 1,
				})),
			},
		},
	});
	await hub.operator.plugins.register({
		manifestJson: JSON.stringify({ manifest_version: 2, id: mark, name: mark, version: "1.0.0", type: "service" }),
		withoutInstance: true,
	});
	const { subscribe, emitStream, sendStream, attach, receive, watch } = feeds;
	if (lives("emitStream")) {
		await emitStream.when(() => emitStream.all("acknowledgement").some(({ batchId }) => batchId === BigInt(marks)));
	}
	if (lives("subscribe")) {
		await subscribe.when(() =>
			subscribe.all("batch").some(({ events }) => events.some(({ subject }) => subject === mark)),
		);
	}
	if (lives("sendStream")) await sendStream.when(() => sendStream.all("results").length > 0);
	if (lives("attach") && lives("receive") && lives("sendStream")) {
		// Two sessions compete for two messages.
		const deliveries = () => [...attach.all("batch"), ...receive.all("batch")].flatMap((batch) => batch.deliveries);
		await until(() => deliveries().filter(({ message }) => message?.attributes.mark === mark).length === 2);
	}
	if (lives("watch")) {
		await watch.when(() =>
			watch.all("batch").some(({ changes }) => changes.some((change) => change.pluginId === mark)),
		);
	}
	for (const kind of KINDS) expect([kind, feeds[kind].done]).toEqual([kind, !lives(kind)]);
}

/** Each of these streams has ended as a revoked one does, and within a second. */
async function expectRevoked(
	streams: EveryStream,
	kinds: readonly Kind[],
	since: number,
	code: string,
	reason: string,
) {
	await Promise.all(kinds.map((kind) => streams.feeds[kind].ended));
	expect(performance.now() - since).toBeLessThan(1000);
	for (const kind of kinds) {
		const feed = streams.feeds[kind];
		expect([kind, feed.cases.at(-1)]).toEqual([kind, "revoked"]);
		expect(feed.failure, kind).toMatchObject({ code, reason });
		const last = feed.frames.at(-1)!.frame;
		expect(last.case === "revoked" && last.value.reason, kind).toBe(reason);
		expect(last.case === "revoked" && last.value.message, kind).not.toBe("");
	}
}

describeHubs("open streams", (start) => {
	const changes: [string, string, string, (hub: TestHub) => Promise<unknown>][] = [
		[
			"a plugin's credentials are revoked",
			"Unauthenticated",
			"CREDENTIAL_REVOKED",
			(hub) => hub.operator.admin.revokeCredential({ target: { case: "pluginId", value: "mine" } }),
		],
		[
			"a plugin is disabled",
			"FailedPrecondition",
			"PLUGIN_DISABLED",
			(hub) => hub.operator.plugins.disable({ pluginId: "mine" }),
		],
		[
			"a plugin is unregistered",
			"PermissionDenied",
			"PERMISSION_REVOKED",
			(hub) => hub.operator.plugins.unregister({ pluginId: "mine" }),
		],
	];
	test.each(changes)("all end within a second when %s, and others go on", async (_, code, reason, change) => {
		await using hub = await start();
		const mine = await openEveryStream(await hub.enrol("mine"), ["a.b"]);
		const other = await openEveryStream(await hub.enrol("other"), ["a.b"]);
		await expectAlive(hub, "mine", mine);
		const since = performance.now();
		await change(hub);
		await expectRevoked(mine, KINDS, since, code, reason);
		await expectAlive(hub, "other", other);
	});

	test.each(changes)("of a recipient say within a second that a request is withdrawn when %s", async (...given) => {
		const [, code, reason, change] = given;
		await using hub = await start();
		const mine = await hub.enrol("mine");
		const recipient = await hub.enrol("recipient");
		const answers = new Outbox<MessageInitShape<typeof AttachRequestSchema>>({ frame: { case: "open", value: {} } });
		const deliveries = new Feed(recipient.messaging.attach(answers));
		await deliveries.first("ready");
		const to = { target: { case: "pluginId", value: "recipient" } } as const;
		const failure = failureOf(mine.messaging.request({ to, message: { type: "x.y" } }));
		const deliveryId = (await deliveries.first("batch")).deliveries[0]?.deliveryId;
		const since = performance.now();
		await change(hub);
		expect(await failure).toMatchObject({ code, reason });
		expect(await deliveries.first("cancelled")).toMatchObject({ deliveryId });
		expect(performance.now() - since).toBeLessThan(1000);
	});

	it("end where one of two credentials is revoked, and not with the other", async () => {
		await using hub = await start();
		const first = await hub.enrol("mine");
		const { token, credentialId } = await hub.operator.admin.issueCredential({
			principal: { case: "pluginId", value: "mine" },
		});
		const kept = await openEveryStream(first, ["a.b"]);
		const lost = await openEveryStream(hub.connect(token), ["a.b"]);
		const since = performance.now();
		await hub.operator.admin.revokeCredential({ target: { case: "credentialId", value: credentialId } });
		await expectRevoked(lost, KINDS, since, "Unauthenticated", "CREDENTIAL_REVOKED");
		await expectAlive(hub, "mine", kept);
	});

	it("end with the time of their credential", async () => {
		const clock = new SkippingClock();
		await using hub = await start({ clock, options: UNHURRIED });
		const kept = await hub.enrol("mine");
		const { token } = await hub.operator.admin.issueCredential({
			principal: { case: "pluginId", value: "mine" },
			lifetime: { seconds: 600n },
		});
		const brief = await openEveryStream(hub.connect(token), ["a.b"]);
		const lasting = await openEveryStream(kept, ["a.b"]);
		const since = performance.now();
		clock.skip(601_000);
		await expectRevoked(brief, KINDS, since, "Unauthenticated", "CREDENTIAL_EXPIRED");
		await expectAlive(hub, "mine", lasting);
	});

	it("end where a permission that they stand on is taken, and only those", async () => {
		await using hub = await start();
		const mine = await openEveryStream(await hub.enrol("mine"), ["a.b"]);
		// A grant that still covers the subscription changes nothing for it.
		await hub.operator.admin.setPermissions({ pluginId: "mine", permissions: { ...ALL_GRANTS, subscribe: ["a.*"] } });
		await expectAlive(hub, "mine", mine);
		const since = performance.now();
		await hub.operator.admin.setPermissions({ pluginId: "mine", permissions: { ...ALL_GRANTS, subscribe: ["a.c"] } });
		await expectRevoked(mine, ["subscribe"], since, "PermissionDenied", "PERMISSION_REVOKED");
		expect(mine.feeds.subscribe.failure?.metadata).toMatchObject({
			pattern: "a.b",
			refused_by: "INSUFFICIENT_PERMISSIONS",
		});
		await expectAlive(hub, "mine", mine, ["subscribe"]);
	});

	it("that publish or send refuse entry by entry what is no longer permitted or trusted", async () => {
		await using hub = await start();
		const mine = await openEveryStream(await hub.enrol("mine"), ["a.b"]);
		await hub.enrol("vault");
		const send = async (to: string) => {
			const before = mine.feeds.sendStream.all("results").length;
			const address = { target: { case: "pluginId", value: to } } as const;
			const entry = { entryId: 9n, to: address, message: { type: "x.y" }, durability: 1 };
			mine.entries.push({ frame: { case: "batch", value: { entries: [entry] } } });
			await mine.feeds.sendStream.when(() => mine.feeds.sendStream.all("results").length > before);
			const { outcome } = mine.feeds.sendStream.all("results").at(-1)!.results[0]!;
			return outcome.case === "error" ? outcome.value.reason : outcome.case;
		};
		expect(await send("mine")).toBe("accepted");
		expect(await send("vault")).toBe("RECIPIENT_UNAVAILABLE");
		await hub.operator.admin.setTrustLevel({ pluginId: "vault", trustLevel: TrustLevel.TRUSTED });
		expect(await send("vault")).toBe("TRUST_LEVEL_MISMATCH");
		await hub.operator.admin.setTrustLevel({ pluginId: "mine", trustLevel: TrustLevel.BASIC });
		expect(await send("vault")).toBe("RECIPIENT_UNAVAILABLE");
		await hub.operator.admin.setTrustLevel({ pluginId: "mine", trustLevel: TrustLevel.UNTRUSTED });
		expect(await send("vault")).toBe("TRUST_LEVEL_MISMATCH");
		await hub.operator.admin.setPermissions({
			pluginId: "mine",
			permissions: { subscribe: ["**"], receiveFrom: ["*"] },
		});
		expect(await send("mine")).toBe("NO_SEND_PERMISSION");
		mine.batches.push({ batchId: 5n, events: [{ type: "a.b" }] });
		const { exceptions } = await mine.feeds.emitStream.first("acknowledgement");
		expect(exceptions).toMatchObject([{ outcome: { case: "error", value: { reason: "INSUFFICIENT_PERMISSIONS" } } }]);
		for (const kind of KINDS) expect([kind, mine.feeds[kind].done]).toEqual([kind, false]);
	});
});
