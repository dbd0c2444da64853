import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { installed, TemporaryFolder, Worker } from "./bench.ts";
import { PeerProcess } from "./peer-process.ts";

export const NATS_MISSING = installed("nats-server") ? undefined : "nats-server is not installed";

/** A NATS server in a process of its own, on a folder of its own. */
export class NatsProcess extends PeerProcess {
	/** `syncAlways`: JetStream flushes each message before it answers; otherwise every two minutes, its default. */
	static async start({ syncAlways = false } = {}): Promise<NatsProcess> {
		const folder = new TemporaryFolder();
		const config = join(folder.path, "nats.conf");
		// Room for a whole round, so that a subscriber that lags is never cut off.
		const lines = ["listen: 127.0.0.1:-1", "max_pending: 1GB", `jetstream { store_dir: ${JSON.stringify(folder.path)}`];
		if (syncAlways) lines.push("sync_interval: always");
		writeFileSync(config, `${lines.join("\n")}\n}\n`);
		const worker = new Worker("nats-server", ["--config", config], { linesFrom: "stderr" });
		const listening = await worker.line((line) => line.includes("Listening for client connections on"));
		const address = listening.trim().split(" ").at(-1)!;
		await worker.line((line) => line.includes("Server is ready"));
		return new NatsProcess(address, worker, folder);
	}
}
