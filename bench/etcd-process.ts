import { installed, TemporaryFolder, Worker } from "./bench.ts";
import { freePort } from "./free-port.ts";

export const ETCD_MISSING = installed("etcd") ? undefined : "etcd is not installed";

/** An etcd of one member, in a process of its own, on a folder of its own. */
export class EtcdProcess implements AsyncDisposable {
	/** Host and port. */
	readonly address: string;
	readonly #worker: Worker;
	readonly #folder: TemporaryFolder;

	private constructor(worker: Worker, folder: TemporaryFolder, address: string) {
		this.#worker = worker;
		this.#folder = folder;
		this.address = address;
	}

	static async start(): Promise<EtcdProcess> {
		const folder = new TemporaryFolder();
		const address = `127.0.0.1:${await freePort()}`;
		const clients = `http://${address}`;
		const peers = `http://127.0.0.1:${await freePort()}`;
		const worker = new Worker(
			"etcd",
			["--data-dir", folder.path, "--listen-client-urls", clients, "--advertise-client-urls", clients].concat(
				["--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers],
				["--initial-cluster", `default=${peers}`, "--log-level", "info"],
			),
			{ linesFrom: "stderr" },
		);
		await worker.line((line) => line.includes("serving insecure client requests"));
		return new EtcdProcess(worker, folder, address);
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.#worker[Symbol.asyncDispose]();
		this.#folder[Symbol.dispose]();
	}
}
