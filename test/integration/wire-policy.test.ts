import http2 from "node:http2";
import type { DescService } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import { Health } from "#gen/grpc/health/v1/health_pb.js";
import { ServerReflection } from "#gen/grpc/reflection/v1/reflection_pb.js";
import { ServerReflection as ServerReflectionAlpha } from "#gen/grpc/reflection/v1alpha/reflection_pb.js";
import { EventService } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { HubService } from "#gen/qirvo/hub/v1/hub_service_pb.js";
import { MessagingService } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { PluginService } from "#gen/qirvo/hub/v1/plugin_service_pb.js";
import { SecurityAdminService } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import { StoreService } from "#gen/qirvo/hub/v1/store_service_pb.js";
import { METHOD_POLICIES } from "../../src/rpc/method-policy.ts";
import { startEcho } from "../harness/echo-server.ts";
import { describeHubs } from "../harness/hub.ts";
import { grpcFrame, rawCall, rawCallOn } from "../harness/raw-grpc.ts";
import { SkippingClock, UNHURRIED } from "../harness/skipping-clock.ts";

const SERVICES: readonly DescService[] = [
	...[EventService, HubService, MessagingService, PluginService, SecurityAdminService, StoreService],
	...[Health, ServerReflection, ServerReflectionAlpha],
];
const PATHS = SERVICES.flatMap((service) => service.methods.map(({ name }) => `/${service.typeName}/${name}`));

const UNAUTHENTICATED = "16";
const PERMISSION_DENIED = "7";
const REFUSALS = [
	...["CREDENTIAL_MISSING", "CREDENTIAL_INVALID", "CREDENTIAL_EXPIRED", "CREDENTIAL_REVOKED", "CALLER_NOT_ALLOWED"],
	...["METHOD_UNKNOWN", "INTERNAL"],
];

type Credential = "none" | "nonsense" | "forged" | "of another scheme" | "expired" | "revoked" | "plugin" | "operator";

/** What the table says of a call; undefined: its handler is asked. */
function wanted(path: string, credential: Credential): readonly [code: string, reason: string] | undefined {
	switch (credential) {
		case "nonsense":
		case "forged":
		case "of another scheme":
			return [UNAUTHENTICATED, "CREDENTIAL_INVALID"];
		case "expired":
			return [UNAUTHENTICATED, "CREDENTIAL_EXPIRED"];
		case "revoked":
			return [UNAUTHENTICATED, "CREDENTIAL_REVOKED"];
		default: {
			const callers = METHOD_POLICIES.get(path)!.callers;
			if (callers === "public") return undefined;
			// Without `--dev` nobody enrols without a credential.
			if (credential === "none") return [UNAUTHENTICATED, "CREDENTIAL_MISSING"];
			if (callers === "authenticated" || callers === "enrolling" || callers === credential) return undefined;
			return [PERMISSION_DENIED, "CALLER_NOT_ALLOWED"];
		}
	}
}

describeHubs("the method policy", (start) => {
	it("decides about every RPC, for every kind of credential", async () => {
		expect([...METHOD_POLICIES.keys()].sort()).toEqual([...PATHS].sort());
		const clock = new SkippingClock();
		await using hub = await start({ clock, options: UNHURRIED });
		const issue = (id: string, lifetime?: { seconds: bigint }) =>
			hub.operator.admin.issueCredential({ principal: { case: "pluginId", value: id }, lifetime });
		const expired = await issue("expired", { seconds: 1n });
		clock.skip(2000);
		const revoked = await issue("revoked");
		await hub.operator.admin.revokeCredential({ target: { case: "credentialId", value: revoked.credentialId } });
		const plugin = await issue("plugin");
		const [head, body, signature] = plugin.token.split(".");
		const other = (await issue("other")).token.split(".");
		const credentials: Record<Credential, string | undefined> = {
			none: undefined,
			nonsense: "Bearer nonsense",
			forged: `Bearer ${head}.${other[1]}.${signature}`,
			"of another scheme": `Basic ${body}`,
			expired: `Bearer ${expired.token}`,
			revoked: `Bearer ${revoked.token}`,
			plugin: `Bearer ${plugin.token}`,
			operator: `Bearer ${hub.operator.token}`,
		};
		const session = http2.connect(hub.url);
		session.on("error", () => {});
		const calls = Object.entries(credentials).flatMap(([credential, authorization]) =>
			PATHS.map(async (path) => {
				const headers = { "grpc-timeout": "2S", ...(authorization === undefined ? {} : { authorization }) };
				const outcome = await rawCallOn(session, { path, headers, body: [grpcFrame(new Uint8Array(0))] });
				return { path, credential: credential as Credential, outcome };
			}),
		);
		const answers = await Promise.all(calls);
		session.destroy();
		expect(answers).toHaveLength(PATHS.length * 8);
		const described = ({ path, credential, outcome }: (typeof answers)[number]) =>
			`${path}, ${credential}: ${outcome.reason}`;
		for (const answer of answers) {
			const { outcome } = answer;
			const refusal = wanted(answer.path, answer.credential);
			if (refusal === undefined) {
				expect(REFUSALS, described(answer)).not.toContain(outcome.reason);
				expect(outcome.grpcStatus, described(answer)).toMatch(/^\d+$/);
				continue;
			}
			expect([outcome.grpcStatus, outcome.reason], described(answer)).toEqual(refusal);
			expect(outcome.details.filter((type) => type === "google.rpc.ErrorInfo")).toHaveLength(1);
			expect(outcome.messages, described(answer)).toEqual([]);
		}
	});

	it("knows no other RPC", async () => {
		await using hub = await start();
		const authorization = `Bearer ${hub.operator.token}`;
		for (const path of ["/qirvo.hub.v1.EventService/emit", "/qirvo.hub.v1.NoService/Get", "/", "/a"]) {
			const outcome = await rawCall(hub.running.port, {
				path,
				headers: { authorization },
				body: [grpcFrame(new Uint8Array(0))],
			});
			expect([outcome.grpcStatus, outcome.reason]).toEqual(["12", "METHOD_UNKNOWN"]);
		}
	});
});

it.each([true, false])("an RPC without a row is refused (fast lane: %j)", async (fastLane) => {
	await using echo = await startEcho({ fastLane, policies: new Map() });
	for (const method of ["Unary", "Server", "Bidi"]) {
		const path = `/test.echo.v1.EchoService/${method}`;
		const outcome = await rawCall(echo.port, { path, body: [grpcFrame(new Uint8Array(0))] });
		expect([outcome.grpcStatus, outcome.reason, outcome.messages]).toEqual([
			PERMISSION_DENIED,
			"CALLER_NOT_ALLOWED",
			[],
		]);
	}
});
