import { installed, TemporaryFolder, Worker } from "./bench.ts";
import { freePort } from "./free-port.ts";
import { PeerProcess } from "./peer-process.ts";

export const ETCD_MISSING = installed("etcd") ? undefined : "etcd is not installed";

/** An etcd of one member. */
export class EtcdProcess extends PeerProcess {
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
		return new EtcdProcess(address, worker, folder);
	}
}
