import { fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { Code, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { describe, expect, it } from "vitest";
import { Health, HealthCheckResponse_ServingStatus as Status } from "#gen/grpc/health/v1/health_pb.js";
import { ServerReflection, type ServerReflectionRequest } from "#gen/grpc/reflection/v1/reflection_pb.js";
import { ServerReflection as ServerReflectionAlpha } from "#gen/grpc/reflection/v1alpha/reflection_pb.js";
import { HealthStatus, healthService } from "../../src/server/health.ts";
import { reflectionServices } from "../../src/server/reflection.ts";
import { startEcho } from "../harness/echo-server.ts";
import { echoService } from "../harness/echo-service.ts";

const ECHO = "test.echo.v1.EchoService";

describe.each([
	["fast lane", true],
	["Connect lane", false],
])("probes (%s)", (_, fastLane) => {
	const start = async () => {
		const health = new HealthStatus([ECHO]);
		const services = [echoService(), healthService(health)];
		const echo = await startEcho({ fastLane, services: [...services, ...reflectionServices(services)] });
		return { health, echo, transport: createGrpcTransport({ baseUrl: echo.url }) };
	};

	it("checks the hub, a service and one that is not there", async () => {
		const { health, echo, transport } = await start();
		await using _ = echo;
		const client = createClient(Health, transport);
		expect((await client.check({})).status).toBe(Status.NOT_SERVING);
		health.set(true);
		expect((await client.check({})).status).toBe(Status.SERVING);
		health.set(false, ECHO);
		expect((await client.check({ service: ECHO })).status).toBe(Status.NOT_SERVING);
		expect((await client.check({})).status).toBe(Status.SERVING);
		await expect(client.check({ service: "no.Such" })).rejects.toMatchObject({ code: Code.NotFound });
	});

	it("watches: the status at once, each change, and a service that comes later", async () => {
		const { health, echo, transport } = await start();
		await using _ = echo;
		const client = createClient(Health, transport);
		const leave = new AbortController();
		const watch = client.watch({ service: "late.Service" }, { signal: leave.signal })[Symbol.asyncIterator]();
		expect((await watch.next()).value?.status).toBe(Status.SERVICE_UNKNOWN);
		health.set(false, "late.Service");
		expect((await watch.next()).value?.status).toBe(Status.NOT_SERVING);
		health.set(true, "late.Service");
		expect((await watch.next()).value?.status).toBe(Status.SERVING);
		leave.abort();
		await expect(watch.next()).rejects.toMatchObject({ code: Code.Canceled });
	});

	it("says NOT_SERVING to watchers before it ends them", async () => {
		const { health, echo, transport } = await start();
		health.set(true);
		const watch = createClient(Health, transport).watch({})[Symbol.asyncIterator]();
		expect((await watch.next()).value?.status).toBe(Status.SERVING);
		health.set(false);
		const last = watch.next();
		const drained = echo.server.drain(2000);
		expect((await last).value?.status).toBe(Status.NOT_SERVING);
		await expect(watch.next()).rejects.toMatchObject({ code: Code.Unavailable });
		await drained;
		expect(echo.server.openCalls).toBe(0);
	});

	it.each([
		["v1", ServerReflection],
		["v1alpha", ServerReflectionAlpha as unknown as typeof ServerReflection],
	])("reflects (%s)", async (_, service) => {
		const { echo, transport } = await start();
		await using __ = echo;
		const client = createClient(service, transport);
		const ask = async (messageRequest: ServerReflectionRequest["messageRequest"]) => {
			async function* questions() {
				yield { host: "h", messageRequest };
			}
			for await (const answer of client.serverReflectionInfo(questions())) {
				expect(answer.validHost).toBe("h");
				return answer.messageResponse;
			}
			throw new Error("no answer");
		};
		const names = (answer: Awaited<ReturnType<typeof ask>>) =>
			answer.case === "fileDescriptorResponse"
				? answer.value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes).name)
				: answer;
		expect(await ask({ case: "listServices", value: "" })).toMatchObject({
			value: {
				service: [
					{ name: ECHO },
					{ name: "grpc.health.v1.Health" },
					{ name: "grpc.reflection.v1.ServerReflection" },
					{ name: "grpc.reflection.v1alpha.ServerReflection" },
				],
			},
		});
		expect(names(await ask({ case: "fileByFilename", value: "echo.proto" }))).toEqual(["echo.proto"]);
		for (const symbol of [ECHO, `${ECHO}.Unary`, "test.echo.v1.EchoRequest", "test.echo.v1.EchoRequest.text"]) {
			expect(names(await ask({ case: "fileContainingSymbol", value: symbol }))).toEqual(["echo.proto"]);
		}
		expect(names(await ask({ case: "fileContainingSymbol", value: "google.rpc.RetryInfo" }))).toEqual([
			"google/rpc/error_details.proto",
			"google/protobuf/duration.proto",
		]);
		for (const question of [
			{ case: "fileContainingSymbol", value: "no.Such" },
			{ case: "fileContainingSymbol", value: `${ECHO}.Nothing` },
			{ case: "fileByFilename", value: "/etc/passwd" },
			{ case: "fileContainingExtension", value: { containingType: "test.echo.v1.EchoRequest", extensionNumber: 9 } },
			{ case: "allExtensionNumbersOfType", value: "no.Such" },
		] as const) {
			expect(await ask(question as never)).toMatchObject({
				case: "errorResponse",
				value: { errorCode: Code.NotFound },
			});
		}
		expect(await ask({ case: "allExtensionNumbersOfType", value: "test.echo.v1.EchoRequest" })).toMatchObject({
			value: { baseTypeName: "test.echo.v1.EchoRequest", extensionNumber: [] },
		});
		expect(await ask({ case: undefined })).toMatchObject({ value: { errorCode: Code.InvalidArgument } });
	});
});
