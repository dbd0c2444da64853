import { createHash } from "node:crypto";
import { type FileHandle, open, readFile, rm } from "node:fs/promises";
import { createClient, type Interceptor } from "@connectrpc/connect";
import { HubService } from "#gen/qirvo/hub/v1/hub_service_pb.js";
import { createNodeTransport } from "./client/transports/node-transport.ts";
import type { ParsedConfig } from "./config.ts";
import { restoreHub, verifyHubBackup } from "./server/restore-hub.ts";

type Task<K extends ParsedConfig["kind"]> = Extract<ParsedConfig, { readonly kind: K }>;
type Backup = Awaited<ReturnType<typeof verifyHubBackup>>;

/** Does what was asked for and says so. The exit code: 0 where it was done; 1 where it could not be, with the reason on standard error. */
export async function runBackupTask(task: Task<"backup" | "verify-backup" | "restore">): Promise<number> {
	try {
		process.stdout.write(`${await perform(task)}\n`);
		return 0;
	} catch (error) {
		process.stderr.write(`plugin-hub: ${task.kind}: ${error instanceof Error ? error.message : error}\n`);
		return 1;
	}
}

async function perform(task: Task<"backup" | "verify-backup" | "restore">): Promise<string> {
	switch (task.kind) {
		case "backup": {
			const { size, sha256 } = await takeBackup(task);
			return `${task.file}: ${size} bytes, sha256 ${sha256}; keep it as secret as the hub's data`;
		}
		case "verify-backup":
			return `${task.file} is whole\n${summaryOf(await verifyHubBackup(task.file))}`;
		case "restore":
			return `restored to ${task.directory}\n${summaryOf(await restoreHub(task.file, task.directory))}`;
	}
}

function summaryOf({ description, entries, logs }: Backup): string {
	const { hubVersion, time, bytes } = description;
	const rows = [
		["hub version", hubVersion],
		["taken", new Date(time).toISOString()],
		["state bytes", String(bytes)],
		["keys", String(entries)],
		...logs.map(({ name, records, blocks }) => [`log ${name}`, `${records} records in ${blocks} blocks`]),
	];
	return rows.map(([what, value]) => `  ${what}: ${value}`).join("\n");
}

/** Writes the backup of a running hub to a new file that nobody else may read, and takes it away again where it is not whole. */
async function takeBackup({ file, url, tokenFile }: Task<"backup">): Promise<{ size: number; sha256: string }> {
	const token = (await readFile(tokenFile, "utf8")).trim();
	const authorize: Interceptor = (next) => (request) => {
		request.header.set("authorization", `Bearer ${token}`);
		return next(request);
	};
	const transport = createNodeTransport({ url, interceptors: [authorize] });
	let target: FileHandle | undefined;
	try {
		const frames = createClient(HubService, transport).backupState({});
		target = await open(file, "wx", 0o600);
		const hash = createHash("sha256");
		let size = 0;
		for await (const { frame } of frames) {
			if (frame.case === "chunk") {
				hash.update(frame.value);
				size += frame.value.byteLength;
				await target.appendFile(frame.value);
			} else if (frame.case === "end") {
				const sha256 = hash.digest("hex");
				const isWhole = frame.value.size === BigInt(size) && Buffer.from(frame.value.sha256).toString("hex") === sha256;
				if (!isWhole) throw new Error("what came is not what the hub sent");
				await target.sync();
				return { size, sha256 };
			}
		}
		throw new Error("the hub ended the backup before its end");
	} catch (error) {
		if (target !== undefined) await rm(file, { force: true });
		throw error;
	} finally {
		await target?.close();
		transport.close();
	}
}
