import { create, toBinary } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import { AddressSchema, MessageSchema } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import type { Router } from "../../src/messaging/router.ts";
import type { Routes } from "../../src/messaging/routes.ts";
import { MessageIntake } from "../../src/rpc/message-intake.ts";
import type { AuditEntry } from "../../src/security/audit-entry.ts";
import { Guard } from "../../src/security/guard.ts";
import type { PolicySource } from "../../src/security/policy-view.ts";
import { FakeCall, plugin } from "../harness/event-hub.ts";
import { FakeClock } from "../harness/fake-clock.ts";

it("a message that names another plugin as its source is refused and recorded", () => {
	const records: AuditEntry[] = [];
	const guard = new Guard({ policy: {} as PolicySource, audit: { record: (entry) => void records.push(entry) } });
	const intake = new MessageIntake({ router: {} as Router, routes: {} as Routes, guard, clock: new FakeClock() });
	const call = new FakeCall(plugin("mallory"));
	const view = {
		entryId: 0,
		to: toBinary(AddressSchema, create(AddressSchema, { target: { case: "pluginId", value: "bob" } })),
		message: toBinary(MessageSchema, create(MessageSchema, { type: "a.b", source: "alice" })),
		durability: undefined,
		timeoutMs: undefined,
	};
	expect(() => intake.admit(call, view, "", "durable")).toThrow(expect.objectContaining({ reason: "SPOOFED_SOURCE" }));
	expect(records).toMatchObject([
		{ event: "message_denied", actor: "plugin:mallory", reason: "spoofed_source", requestId: call.requestId },
	]);
});
