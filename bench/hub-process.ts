import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { SecurityAdminService } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import { type LocalHub, startLocalHub } from "../examples/local-hub.ts";
import { TemporaryFolder } from "./bench.ts";

/** A hub in a process of its own, on a folder of its own. */
export class HubProcess implements AsyncDisposable {
	readonly #hub: LocalHub;
	readonly #folder: TemporaryFolder;

	private constructor(hub: LocalHub, folder: TemporaryFolder) {
		this.#hub = hub;
		this.#folder = folder;
	}

	static async start(state: "memory" | "embedded"): Promise<HubProcess> {
		const folder = new TemporaryFolder();
		return new HubProcess(await startLocalHub({ flags: ["--state", state, "--data", folder.path] }), folder);
	}

	get url(): string {
		return this.#hub.url;
	}

	get port(): number {
		return Number(new URL(this.url).port);
	}

	/** A token for a plugin that may do all that a benchmark needs. */
	async enrol(pluginId: string): Promise<string> {
		const transport = createGrpcTransport({
			baseUrl: this.url,
			interceptors: [
				(next) => (request) => {
					request.header.set("authorization", `Bearer ${this.#hub.operatorToken}`);
					return next(request);
				},
			],
		});
		const admin = createClient(SecurityAdminService, transport);
		const { token } = await admin.issueCredential({ principal: { case: "pluginId", value: pluginId } });
		await admin.setPermissions({
			pluginId,
			permissions: {
				emit: ["**"],
				subscribe: ["**"],
				replay: ["**"],
				sendTo: ["*"],
				receiveFrom: ["*"],
				stores: [{ store: "*", read: true, write: true, create: true }],
			},
		});
		return token;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.#hub.stop();
		this.#folder[Symbol.dispose]();
	}
}
