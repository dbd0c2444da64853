import { Health, HealthCheckResponse_ServingStatus as ServingStatus } from "#gen/grpc/health/v1/health_pb.js";
import { HubError } from "../hub-error.ts";
import { type Call, type MountedService, mount } from "../rpc/call.ts";

/** What the hub says of itself and of each of its services, as `grpc.health.v1` spells it. */
export class HealthStatus {
	/** By service name; the empty name is the hub as a whole. Bounded by the services that are mounted. */
	readonly #serving = new Map<string, boolean>();
	readonly #watchers = new Set<() => void>();

	/** `services` are full names; they and the hub as a whole begin as NOT_SERVING. */
	constructor(services: Iterable<string>) {
		this.#serving.set("", false);
		for (const name of services) this.#serving.set(name, false);
	}

	/** Whether the hub as a whole takes calls. */
	get ready(): boolean {
		return this.#serving.get("") === true;
	}

	/** Without a name: the hub and every service. A name that was not known becomes known. */
	set(serving: boolean, service?: string): void {
		if (service === undefined) for (const name of this.#serving.keys()) this.#serving.set(name, serving);
		else this.#serving.set(service, serving);
		for (const wake of this.#watchers) wake();
	}

	/** Undefined where the service is not known. */
	get(service: string): boolean | undefined {
		return this.#serving.get(service);
	}

	/**
	 * The status now and each change of it, until `signal` aborts; a change that came before the abort is still told.
	 * A reader that is slow sees the last of several.
	 */
	async *watch(service: string, signal: AbortSignal): AsyncGenerator<boolean | undefined> {
		let wake = () => {};
		const woken = () => wake();
		this.#watchers.add(woken);
		signal.addEventListener("abort", woken);
		try {
			let said: boolean | undefined | null = null;
			while (true) {
				const now = this.get(service);
				if (now !== said) {
					said = now;
					yield now;
					continue;
				}
				if (signal.aborted) return;
				await new Promise<void>((resolve) => {
					wake = resolve;
				});
			}
		} finally {
			this.#watchers.delete(woken);
			signal.removeEventListener("abort", woken);
		}
	}
}

/** `grpc.health.v1.Health` over a status that somebody else keeps. */
export function healthService(health: HealthStatus): MountedService {
	return mount(Health, {
		async check({ service }) {
			const serving = health.get(service);
			if (serving === undefined) {
				throw new HubError("SERVICE_NOT_FOUND", "there is no such service here", {
					resource: { type: "service", name: service.slice(0, 200) },
				});
			}
			return { status: serving ? ServingStatus.SERVING : ServingStatus.NOT_SERVING };
		},
		async *watch({ service }, call: Call) {
			for await (const serving of health.watch(service, call.signal)) {
				if (serving === undefined) yield { status: ServingStatus.SERVICE_UNKNOWN };
				else yield { status: serving ? ServingStatus.SERVING : ServingStatus.NOT_SERVING };
			}
			// A watch ends by its caller or by the hub; either way with the reason.
			throw call.signal.reason;
		},
	});
}
