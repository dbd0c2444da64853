import { fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, timestampMs } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { expect, it } from "vitest";
import { Health, HealthCheckResponse_ServingStatus as Status } from "#gen/grpc/health/v1/health_pb.js";
import { ServerReflection, type ServerReflectionRequest } from "#gen/grpc/reflection/v1/reflection_pb.js";
import { ServerReflection as ServerReflectionAlpha } from "#gen/grpc/reflection/v1alpha/reflection_pb.js";
import { failureOf } from "../harness/failure.ts";
import { describeHubs } from "../harness/hub.ts";

const OWN_SERVICES = [
	...["EventService", "HubService", "MessagingService", "PluginService", "SecurityAdminService", "StoreService"],
];
const SERVICES = [
	...["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"],
	...OWN_SERVICES.map((name) => `qirvo.hub.v1.${name}`),
];

describeHubs("what a hub says of itself", (start) => {
	it("names version, backend, limits and time to plugins and operators", async () => {
		const before = Date.now();
		await using hub = await start({ options: { leaseMs: 12_000, idWindow: { ms: 60_000, ids: 1000 } } });
		const plugin = await hub.enrol("weather");
		const info = await plugin.hub.getHubInfo({});
		const embedded = hub.options.state === "embedded";
		expect(info).toMatchObject({
			version: "0.0.0-test",
			backend: hub.options.state,
			durable: embedded,
			devMode: false,
			nodeId: expect.stringMatching(/./),
			limits: {
				maxContentBytes: 1_048_576n,
				maxJsonDepth: 64,
				maxBatchEntries: 1000,
				maxBatchBytes: 4_194_304n,
				maxPatterns: 64,
				maxSubscriptions: 1000,
				maxMailboxMessages: 10_000,
				idWindow: { seconds: 60n },
				lease: { seconds: 12n },
				maxManifestBytes: 262_144n,
			},
			// A feature is announced only where it is there.
			features: {
				durableMessages: true,
				durableSubscriptions: true,
				stores: true,
				stateBackup: embedded,
				discovery: false,
				cluster: false,
			},
		});
		for (const time of [info.startTime!, info.hubTime!]) {
			expect(timestampMs(time)).toBeGreaterThanOrEqual(before);
			expect(timestampMs(time)).toBeLessThanOrEqual(Date.now());
		}
		const { position } = await plugin.events.emit({ event: { type: "a.b" } });
		expect(position?.epoch).toBe(info.eventEpoch);
		expect((await hub.operator.hub.getHubInfo({})).nodeId).toBe(info.nodeId);

		const { nodes } = await hub.operator.hub.listNodes({});
		expect(nodes).toMatchObject([{ id: info.nodeId, self: true }]);
		expect(await failureOf(plugin.hub.listNodes({}))).toMatchObject({
			code: "PermissionDenied",
			reason: "CALLER_NOT_ALLOWED",
		});
		expect(await failureOf(hub.connect().hub.getHubInfo({}))).toMatchObject({
			code: "Unauthenticated",
			reason: "CREDENTIAL_MISSING",
		});
	});

	it("answers health checks without a credential, and tells watchers that it stops", async () => {
		await using hub = await start();
		const health = createClient(Health, hub.connect().transport);
		for (const service of ["", ...SERVICES.filter((name) => name.startsWith("qirvo"))]) {
			expect((await health.check({ service })).status).toBe(Status.SERVING);
		}
		expect(await failureOf(health.check({ service: "no.Such" }))).toMatchObject({
			code: "NotFound",
			reason: "SERVICE_NOT_FOUND",
		});
		const watch = health.watch({})[Symbol.asyncIterator]();
		expect((await watch.next()).value?.status).toBe(Status.SERVING);
		const stopped = hub.running.stop();
		expect((await watch.next()).value?.status).toBe(Status.NOT_SERVING);
		expect(await failureOf(watch.next())).toMatchObject({ code: "Unavailable", reason: "HUB_DRAINING" });
		await stopped;
	});

	it("reflects its contract, in both versions of the protocol", async () => {
		await using hub = await start();
		const { transport } = hub.connect();
		for (const service of [ServerReflection, ServerReflectionAlpha as unknown as typeof ServerReflection]) {
			const client = createClient(service, transport);
			const ask = async (...questions: ServerReflectionRequest["messageRequest"][]) => {
				async function* requests() {
					for (const messageRequest of questions) yield { messageRequest };
				}
				const answers = [];
				for await (const { messageResponse } of client.serverReflectionInfo(requests())) answers.push(messageResponse);
				return answers;
			};
			const [services, file, missing] = await ask(
				{ case: "listServices", value: "" },
				{ case: "fileContainingSymbol", value: "qirvo.hub.v1.EventService.Emit" },
				{ case: "fileByFilename", value: "no/such.proto" },
			);
			expect(
				services?.case === "listServicesResponse" && services.value.service.map(({ name }) => name).sort(),
			).toEqual(SERVICES);
			const names =
				file?.case === "fileDescriptorResponse" &&
				file.value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes).name);
			expect(names).toContain("qirvo/hub/v1/event_service.proto");
			expect(names).toContain("qirvo/hub/v1/payload.proto");
			expect(missing?.case).toBe("errorResponse");
		}
	});
});
