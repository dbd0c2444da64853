import { installed, TemporaryFolder, Worker } from "./bench.ts";
import { freePort } from "./free-port.ts";

export const REDIS_MISSING = installed("redis-server") ? undefined : "redis-server is not installed";

/** A Redis server with an append-only file, in a process of its own, on a folder of its own. */
export class RedisProcess implements AsyncDisposable {
	readonly port: number;
	readonly #worker: Worker;
	readonly #folder: TemporaryFolder;

	private constructor(worker: Worker, folder: TemporaryFolder, port: number) {
		this.#worker = worker;
		this.#folder = folder;
		this.port = port;
	}

	/** `appendfsync`: when the file is flushed; before each answer, or once a second. */
	static async start(appendfsync: "always" | "everysec"): Promise<RedisProcess> {
		const folder = new TemporaryFolder();
		const port = await freePort();
		const address = ["--port", String(port), "--bind", "127.0.0.1", "--dir", folder.path];
		const storage = ["--appendonly", "yes", "--appendfsync", appendfsync, "--save", ""];
		const worker = new Worker("redis-server", [...address, ...storage]);
		await worker.line((line) => line.includes("Ready to accept connections"));
		return new RedisProcess(worker, folder, port);
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.#worker[Symbol.asyncDispose]();
		this.#folder[Symbol.dispose]();
	}
}
