import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { HubOptions } from "../../src/server/hub-options.ts";
import { StartError, startHub } from "../../src/server/start-hub.ts";
import { silentLogger } from "../../src/telemetry/logger.ts";
import { selfSigned } from "../harness/self-signed.ts";

let directory: string;
const path = (name: string) => join(directory, name);
const tls = (certFile: string, keyFile: string) => ({ tls: { certFile: path(certFile), keyFile: path(keyFile) } });

beforeAll(async () => {
	directory = await mkdtemp(join(tmpdir(), "hub-start-"));
	for (const name of ["one", "two"]) {
		const { cert, key } = selfSigned("localhost");
		await writeFile(path(`${name}.crt`), cert);
		await writeFile(path(`${name}.key`), key);
	}
	await writeFile(path("empty"), "");
	await mkdir(path("taken/operator.token"), { recursive: true });
});
afterAll(() => rm(directory, { recursive: true }));

it.each<[string, string, () => Partial<HubOptions>]>([
	["a certificate that is not there", "tls-cert", () => tls("missing", "one.key")],
	["a certificate that is a folder", "tls-cert", () => tls("taken", "one.key")],
	["a certificate that is none", "tls-cert", () => tls("empty", "one.key")],
	["a key that is not there", "tls-key", () => tls("one.crt", "missing")],
	["a key that is none", "tls-cert", () => tls("one.crt", "empty")],
	["a key of another certificate", "tls-cert", () => tls("one.crt", "two.key")],
	["a data folder that is a file", "data", () => ({ dataDirectory: path("empty") })],
	["a data folder inside a file", "data", () => ({ dataDirectory: path("empty/data") })],
	["a folder in the place of the operator token", "data", () => ({ dataDirectory: path("taken") })],
])("%s is told with the setting", async (_, setting, options) => {
	for (const state of ["memory", "embedded"] as const) {
		const error = await startHub({
			logger: silentLogger,
			options: { listen: { host: "127.0.0.1", port: 0 }, dataDirectory: path("data"), state, ...options() },
		}).then(
			async (hub) => {
				await hub.stop();
				return undefined;
			},
			(error: unknown) => error,
		);
		expect(error).toBeInstanceOf(StartError);
		expect((error as StartError).message.startsWith(`${setting}: `)).toBe(true);
	}
});
