import { create, toBinary } from "@bufbuild/protobuf";
import { expect } from "vitest";
import { EventSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { postFailure } from "./connect-json.ts";
import { type Failure, failureOf } from "./failure.ts";
import { Feed } from "./feed.ts";
import type { Clients, TestHub } from "./hub.ts";
import { grpcFrame, rawCall } from "./raw-grpc.ts";

interface World {
	readonly hub: TestHub;
	readonly plugin: Clients;
}

/** A call that the hub must refuse, and how. */
export interface BadCall {
	readonly name: string;
	readonly call: (world: World) => Promise<Failure>;
	readonly code: string;
	readonly reason: string;
	/** The field that is at fault, where one is. */
	readonly field?: string;
}

export const EMIT = "/qirvo.hub.v1.EventService/Emit";
export const SUBSCRIBE = "/qirvo.hub.v1.EventService/Subscribe";
export const SEND = "/qirvo.hub.v1.MessagingService/Send";
const CODES: Readonly<Record<string, string>> = { 3: "InvalidArgument", 7: "PermissionDenied", 8: "ResourceExhausted" };
export const LONG = "x".repeat(300);
export const DEEP = "[".repeat(200) + "]".repeat(200);
export const MIB = 1024 * 1024;
export const INVALID_UTF8 = Buffer.from([0xc3, 0x28]);

/** Bytes as the only message of a gRPC call. */
export function raw(path: string, message: Uint8Array, declared = message.byteLength) {
	return async ({ hub, plugin }: World): Promise<Failure> => {
		const headers = { authorization: `Bearer ${plugin.token}` };
		const outcome = await rawCall(hub.running.port, { path, headers, body: [grpcFrame(message, 0, declared)] });
		expect(outcome.details.filter((type) => type === "google.rpc.ErrorInfo")).toHaveLength(1);
		const { grpcStatus, reason, metadata, grpcMessage } = outcome;
		const field = metadata.field === undefined ? [] : [metadata.field];
		return {
			code: CODES[grpcStatus!] ?? grpcStatus!,
			reason,
			metadata,
			fields: field,
			details: [],
			message: grpcMessage ?? "",
		};
	};
}

export const json =
	(path: string, body: unknown) =>
	({ hub, plugin }: World) =>
		postFailure(hub.url, path, plugin.token, typeof body === "string" ? body : JSON.stringify(body));

export const emit =
	(event: object) =>
	({ plugin }: World) =>
		failureOf(plugin.events.emit({ event: { type: "a.b", ...event } }));
export const list =
	(request: object) =>
	({ plugin }: World) =>
		failureOf(plugin.events.listEvents({ patterns: ["a.b"], ...request }));
export const send =
	(request: object) =>
	({ plugin }: World) =>
		failureOf(
			plugin.messaging.send({
				to: { target: { case: "pluginId", value: "plugin" } },
				message: { type: "a.b" },
				durability: 1,
				...request,
			}),
		);
export const subscribe =
	(request: object) =>
	async ({ plugin }: World) => {
		const feed = new Feed(plugin.events.subscribe({ patterns: ["a.b"], ...request }));
		await feed.ended;
		expect(feed.frames).toEqual([]);
		return feed.failure!;
	};
export const admin =
	(method: "setTrustLevel" | "issueCredential" | "setPermissions" | "revokeCredential", request: object) =>
	({ hub }: World) =>
		failureOf((hub.operator.admin[method] as (request: object) => Promise<unknown>)(request));

/** An `Emit` with these bytes as the value of a length-delimited field of the event. */
export function eventWith(field: number, value: Uint8Array): Uint8Array {
	const event = Buffer.concat([
		toBinary(EventSchema, create(EventSchema, { type: "a.b" })),
		Buffer.from([(field << 3) | 2, value.byteLength]),
		value,
	]);
	return Buffer.concat([Buffer.from([0x0a, event.byteLength]), event]);
}

const invalid = { code: "InvalidArgument" } as const;
export const field = (name: string, call: BadCall["call"], path: string, reason = "INVALID_FIELD"): BadCall => ({
	name,
	call,
	...invalid,
	reason,
	field: path,
});
export const malformed = (name: string, call: BadCall["call"]): BadCall => ({
	name,
	call,
	...invalid,
	reason: "MALFORMED_REQUEST",
});
export const denied = (name: string, call: BadCall["call"], reason: string, path?: string): BadCall => ({
	name,
	call,
	code: "PermissionDenied",
	reason,
	...(path === undefined ? {} : { field: path }),
});
