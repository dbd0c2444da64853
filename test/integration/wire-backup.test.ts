import { createHash } from "node:crypto";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { Code } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { BackupDecoder } from "../../src/state/backup-file.ts";
import { failureOf } from "../harness/failure.ts";
import { type Clients, describeHubs, HUB_VARIANTS, TestHub, until } from "../harness/hub.ts";

/** Reads a whole backup, and checks what the last frame says of it. */
async function takeBackup(clients: Clients, signal?: AbortSignal): Promise<Uint8Array> {
	const chunks: Uint8Array[] = [];
	let isEnded = false;
	for await (const { frame } of clients.hub.backupState({}, { ...(signal && { signal }) })) {
		expect(isEnded).toBe(false);
		if (frame.case === "chunk") {
			expect(frame.value.byteLength).toBeLessThanOrEqual(256 * 1024);
			chunks.push(frame.value);
		} else if (frame.case === "end") {
			isEnded = true;
			const whole = Buffer.concat(chunks);
			expect(frame.value.size).toBe(BigInt(whole.byteLength));
			expect(Buffer.from(frame.value.sha256)).toEqual(createHash("sha256").update(whole).digest());
		}
	}
	expect(isEnded).toBe(true);
	return Buffer.concat(chunks);
}

const copiesIn = (hub: TestHub) => {
	const folder = join(hub.directory, "backup.tmp");
	return readdirSync(hub.directory).includes("backup.tmp") ? readdirSync(folder) : [];
};

describeHubs("a backup of the state", (start) => {
	it("is for operators, and for hubs that keep something", async () => {
		await using hub = await start();
		const plugin = await hub.enrol("curious");
		expect(await failureOf(takeBackup(plugin))).toMatchObject({
			code: "PermissionDenied",
			reason: "CALLER_NOT_ALLOWED",
		});
		const { features } = await hub.operator.hub.getHubInfo({});
		expect(features?.stateBackup).toBe(hub.options.state === "embedded");
		if (hub.options.state === "embedded") {
			const decoder = new BackupDecoder();
			const copy = decoder.push(await takeBackup(hub.operator));
			expect(decoder.finish()).toMatchObject({ hubVersion: "0.0.0-test", stateFormat: 1, bytes: copy.byteLength });
		} else {
			const failure = await failureOf(takeBackup(hub.operator));
			expect(failure).toMatchObject({ code: Code[Code.FailedPrecondition], reason: "FEATURE_NOT_AVAILABLE" });
		}
		expect(copiesIn(hub)).toEqual([]);
	});
});

describe.each(HUB_VARIANTS.filter(({ options }) => options.state === "embedded"))(
	"a backup on its way ($name)",
	({ options }) => {
		/** A hub whose backup is larger than what streams hold. */
		async function largeHub(): Promise<TestHub> {
			const hub = await TestHub.start({ options });
			const plugin = await hub.enrol("writer");
			const value = Buffer.alloc(1_000_000, 7);
			for (let at = 0; at < 24; at++) {
				await plugin.events.emit({ event: { type: "large", payload: { body: { case: "binary", value } } } });
			}
			return hub;
		}

		it("is the only one, and goes with its call", async () => {
			await using hub = await largeHub();
			const controller = new AbortController();
			const frames = hub.operator.hub.backupState({}, { signal: controller.signal })[Symbol.asyncIterator]();
			expect((await frames.next()).value?.frame.case).toBe("chunk");
			expect(copiesIn(hub)).toHaveLength(1);
			expect(await failureOf(takeBackup(hub.operator))).toMatchObject({
				code: "ResourceExhausted",
				reason: "LIMIT_EXCEEDED",
			});
			controller.abort();
			await frames.next().catch(() => {});
			await until(() => copiesIn(hub).length === 0);
			let size = 0;
			await until(async () => {
				size = (await takeBackup(hub.operator).catch(() => undefined))?.byteLength ?? 0;
				return size > 0;
			});
			expect(size).toBeGreaterThan(24_000_000);
			expect(copiesIn(hub)).toEqual([]);
		});

		it("ends with the credential that it was begun with, and with the hub", async () => {
			await using hub = await largeHub();
			const { token, credentialId } = await hub.operator.admin.issueCredential({
				principal: { case: "operatorId", value: "second" },
			});
			const second = hub.connect(token).hub.backupState({})[Symbol.asyncIterator]();
			await second.next();
			await hub.operator.admin.revokeCredential({ target: { case: "credentialId", value: credentialId } });
			await until(() => copiesIn(hub).length === 0);
			const drain = async () => {
				while (!(await second.next()).done);
			};
			expect(await failureOf(drain())).toMatchObject({ reason: "CREDENTIAL_REVOKED" });
			const third = hub.operator.hub.backupState({})[Symbol.asyncIterator]();
			await third.next();
			const stopped = hub.running.stop();
			await until(() => !readdirSync(hub.directory).includes("backup.tmp"));
			await third.return?.().catch(() => {});
			await stopped;
		});
	},
);
