import type { TemporaryFolder, Worker } from "./bench.ts";

/** A peer of the hub, in a process of its own, on a folder of its own. */
export class PeerProcess implements AsyncDisposable {
	/** Host and port. */
	readonly address: string;
	readonly #worker: Worker;
	readonly #folder: TemporaryFolder;

	constructor(address: string, worker: Worker, folder: TemporaryFolder) {
		this.address = address;
		this.#worker = worker;
		this.#folder = folder;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.#worker[Symbol.asyncDispose]();
		this.#folder[Symbol.dispose]();
	}
}
