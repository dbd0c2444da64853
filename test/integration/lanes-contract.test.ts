import { readdirSync } from "node:fs";
import type { DescService } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { Health } from "#gen/grpc/health/v1/health_pb.js";
import { ServerReflection } from "#gen/grpc/reflection/v1/reflection_pb.js";
import { ServerReflection as ServerReflectionAlpha } from "#gen/grpc/reflection/v1alpha/reflection_pb.js";
import { ErrorReasonSchema } from "#gen/qirvo/hub/v1/errors_pb.js";
import { HubError, type Reason } from "../../src/hub-error.ts";
import { type MountedService, mount } from "../../src/rpc/call.ts";
import { CODE_OF, toStatus } from "../../src/rpc/error-codes.ts";
import { METHOD_POLICIES } from "../../src/rpc/method-policy.ts";
import { mountMethods } from "../../src/rpc/method-table.ts";
import { CompactedError, StorageError } from "../../src/state/kv-store.ts";
import { Metrics } from "../../src/telemetry/metrics.ts";
import { EchoService } from "../harness/gen/echo_pb.js";

async function hubServices(): Promise<DescService[]> {
	const folder = new URL("../../gen/qirvo/hub/v1/", import.meta.url);
	const services: DescService[] = [];
	for (const name of readdirSync(folder).filter((each) => each.endsWith("_pb.js"))) {
		for (const value of Object.values(await import(new URL(name, folder).href)) as { kind?: string }[]) {
			if (value.kind === "service") services.push(value as DescService);
		}
	}
	return services;
}

describe("the method policy", () => {
	it("has a row for every RPC of the contract, and no row for anything else", async () => {
		const services = [...(await hubServices()), Health, ServerReflection, ServerReflectionAlpha];
		expect(services.length).toBeGreaterThanOrEqual(8);
		const paths = services.flatMap(({ typeName, methods }) => methods.map(({ name }) => `/${typeName}/${name}`));
		expect([...METHOD_POLICIES.keys()].sort()).toEqual(paths.sort());
	});

	it("opens nothing but probes to those without a credential", () => {
		const open = [...METHOD_POLICIES].filter(([, { callers }]) => callers === "public" || callers === "enrolling");
		expect(open.map(([path]) => path).sort()).toEqual([
			"/grpc.health.v1.Health/Check",
			"/grpc.health.v1.Health/Watch",
			"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
			"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
			"/qirvo.hub.v1.PluginService/Register",
		]);
	});

	it("bounds every request", () => {
		for (const [, { maxRequestBytes }] of METHOD_POLICIES) {
			expect(maxRequestBytes).toBeGreaterThan(0);
			expect(maxRequestBytes).toBeLessThanOrEqual(4 * 1024 * 1024);
		}
	});

	it("keeps security administration to operators, and audits what changes it", () => {
		for (const [path, { callers, audit }] of METHOD_POLICIES) {
			if (!path.includes("SecurityAdminService")) continue;
			expect(callers).toBe("operator");
			expect(audit).toBe(!path.includes("/Get"));
		}
	});
});

describe("the table of methods", () => {
	it("refuses what is mounted twice or not at all", () => {
		const incomplete: MountedService = { descriptor: EchoService, handlers: {} };
		expect(() => mountMethods([incomplete], METHOD_POLICIES, new Metrics())).toThrow(/has no handler/);
		const health = mount(Health, { check: async () => ({}), watch: async function* () {} });
		expect(() => mountMethods([health, health], METHOD_POLICIES, new Metrics())).toThrow(/mounted twice/);
	});
});

describe("the table of reasons", () => {
	it("is the enum of the contract", () => {
		const names = ErrorReasonSchema.values.filter(({ number }) => number !== 0).map(({ name }) => name);
		expect(
			Object.keys(CODE_OF)
				.map((reason) => `ERROR_REASON_${reason}`)
				.sort(),
		).toEqual(names.sort());
	});

	it.each(Object.keys(CODE_OF) as Reason[])("gives %s one ErrorInfo and its code", (reason) => {
		const status = toStatus(new HubError(reason, "why", { metadata: { a: "b" } }), "id");
		expect(status).toMatchObject({ code: CODE_OF[reason], message: "why", reason });
		expect(status.details.filter(({ desc }) => desc.typeName === "google.rpc.ErrorInfo")).toHaveLength(1);
		expect(status.details[0]?.value).toMatchObject({ reason, domain: "hub.qirvo", metadata: { a: "b" } });
	});

	it("translates faults of storage", () => {
		expect(toStatus(new StorageError("full", "not-written", "x"), "id").reason).toBe("STORAGE_FULL");
		expect(toStatus(new StorageError("unavailable", "unknown", "x"), "id").reason).toBe("STORAGE_UNAVAILABLE");
		expect(toStatus(new StorageError("fatal", "unknown", "x"), "id").reason).toBe("STORAGE_UNAVAILABLE");
		const trimmed = toStatus(new CompactedError(17), "id");
		expect(trimmed.reason).toBe("POSITION_TRIMMED");
		expect(trimmed.details[0]?.value).toMatchObject({ metadata: { oldest: "17" } });
	});

	it("hides everything else", () => {
		for (const thrown of [new TypeError("secret"), "secret", undefined, null, { message: "secret" }]) {
			const status = toStatus(thrown, "id-1");
			expect(status).toMatchObject({ reason: "INTERNAL", message: "internal error" });
			expect(JSON.stringify(status.details.map(({ value }) => value))).not.toContain("secret");
		}
	});
});
