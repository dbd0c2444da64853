import { installed, TemporaryFolder, Worker } from "./bench.ts";
import { freePort } from "./free-port.ts";
import { PeerProcess } from "./peer-process.ts";

export const REDIS_MISSING = installed("redis-server") ? undefined : "redis-server is not installed";

/** A Redis server with an append-only file. */
export class RedisProcess extends PeerProcess {
	/** `appendfsync`: when the file is flushed; before each answer, or once a second. */
	static async start(appendfsync: "always" | "everysec"): Promise<RedisProcess> {
		const folder = new TemporaryFolder();
		const port = await freePort();
		const address = ["--port", String(port), "--bind", "127.0.0.1", "--dir", folder.path];
		const storage = ["--appendonly", "yes", "--appendfsync", appendfsync, "--save", ""];
		const worker = new Worker("redis-server", [...address, ...storage]);
		await worker.line((line) => line.includes("Ready to accept connections"));
		return new RedisProcess(`127.0.0.1:${port}`, worker, folder);
	}
}
