import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { SecurityAdminService } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import { TemporaryFolder, Worker } from "./bench.ts";

/** A hub in a process of its own, on a folder of its own. */
export class HubProcess implements AsyncDisposable {
	readonly port: number;
	readonly url: string;
	readonly #worker: Worker;
	readonly #folder: TemporaryFolder;

	private constructor(worker: Worker, folder: TemporaryFolder, port: number) {
		this.#worker = worker;
		this.#folder = folder;
		this.port = port;
		this.url = `http://127.0.0.1:${port}`;
	}

	static async start(state: "memory" | "embedded"): Promise<HubProcess> {
		const folder = new TemporaryFolder();
		const flags = ["--state", state, "--data", folder.path, "--listen", "127.0.0.1:0"];
		const worker = Worker.node("../src/main.ts", flags, { linesFrom: "stderr" });
		const ready = JSON.parse(await worker.line((line) => line.includes('"ready"'))) as { address: string };
		return new HubProcess(worker, folder, Number(ready.address.split(":").at(-1)));
	}

	/** A token for a plugin that may do all that a benchmark needs. */
	async enrol(pluginId: string): Promise<string> {
		const operator = readFileSync(join(this.#folder.path, "operator.token"), "utf8").trim();
		const transport = createGrpcTransport({
			baseUrl: this.url,
			interceptors: [
				(next) => (request) => {
					request.header.set("authorization", `Bearer ${operator}`);
					return next(request);
				},
			],
		});
		const admin = createClient(SecurityAdminService, transport);
		const { token } = await admin.issueCredential({ principal: { case: "pluginId", value: pluginId } });
		await admin.setPermissions({
			pluginId,
			permissions: { emit: ["**"], subscribe: ["**"], replay: ["**"], sendTo: ["*"], receiveFrom: ["*"] },
		});
		return token;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.#worker[Symbol.asyncDispose]();
		this.#folder[Symbol.dispose]();
	}
}
