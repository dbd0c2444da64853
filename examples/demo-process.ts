import { type ChildProcess, fork } from "node:child_process";
import { join } from "node:path";
import type { DemoStep } from "./demo-plugin.ts";

/** A plugin of the demo: its id and its manifest as it was read. */
export interface DemoManifest {
	readonly id: string;
	readonly json: string;
}

/** A plugin in a process of its own. */
export class DemoProcess {
	readonly started: Promise<void>;
	readonly #child: ChildProcess;
	#next = Promise.withResolvers<void>();
	readonly #exited = Promise.withResolvers<void>();

	constructor(
		{ id, json }: DemoManifest,
		hub: { url: string; token: string; run: string; report: (text: string) => void },
	) {
		this.#child = fork(join(import.meta.dirname, "demo-plugin.ts"), {
			env: { ...process.env, DEMO_URL: hub.url, DEMO_TOKEN: hub.token, DEMO_RUN: hub.run, DEMO_MANIFEST: json },
		});
		this.#child.on("message", (message: { report?: string; done?: string }) => {
			if (message.report !== undefined) hub.report(message.report);
			if (message.done !== undefined) this.#next.resolve();
		});
		this.#child.on("exit", (code) => {
			this.#next.reject(new Error(`${id} ended with code ${code}`));
			if (code === 0) this.#exited.resolve();
			else this.#exited.reject(new Error(`${id} ended with code ${code}`));
		});
		this.#exited.promise.catch(() => {});
		this.started = this.#next.promise;
	}

	async run(step: DemoStep): Promise<void> {
		this.#next = Promise.withResolvers<void>();
		this.#child.send(step);
		await this.#next.promise;
	}

	async leave(): Promise<void> {
		this.#next.promise.catch(() => {});
		this.#child.send({ do: "leave" } satisfies DemoStep);
		await this.#exited.promise;
	}

	end(): void {
		this.#next.promise.catch(() => {});
		if (this.#child.exitCode === null) this.#child.kill();
	}
}
