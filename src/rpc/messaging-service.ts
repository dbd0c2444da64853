import {
	MessagingService,
	type ReceiveRequest,
	type RequestManyRequest,
} from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { HubError } from "../hub-error.ts";
import { asPromise } from "../messaging/accepted-message.ts";
import type { Interceptors } from "../messaging/interceptors.ts";
import { WireReader } from "../wire/wire-reader.ts";
import { openingCredit, readAcknowledge, readReplyRequest } from "./attach-frames.ts";
import { AttachStream } from "./attach-stream.ts";
import { type Call, Encoded, type MountedService, mount, Raw } from "./call.ts";
import { type DeadLetterDeps, deadLetterCalls } from "./dead-letter-calls.ts";
import { type AnswerFailure, reply, settle } from "./delivery-answers.ts";
import { policyOf } from "./delivery-policy-request.ts";
import { DeliveryStream, type DeliveryStreamDeps } from "./delivery-stream.ts";
import { entryErrorOf } from "./entry-error.ts";
import { type FanOutDeps, fanOutCalls } from "./fan-out-calls.ts";
import { InterceptStream } from "./intercept-stream.ts";
import { MessageDispatch, type MessageDispatchDeps } from "./message-dispatch.ts";
import { durabilityOf, MessageIntake, type MessageIntakeDeps, pluginOf, replyDeadline } from "./message-intake.ts";
import { requestMany } from "./request-many-stream.ts";
import { type RouteAudit, routeCalls } from "./route-calls.ts";
import { REQUEST_REQUEST, readSend, SEND_REQUEST } from "./send-frames.ts";
import { encodeAccepted, encodeReply } from "./send-results.ts";
import { SendStream } from "./send-stream.ts";
import type { CallRegistry, StreamRegistry } from "./stream-ending.ts";
import { topicCalls } from "./topic-calls.ts";

export interface MessagingServiceDeps
	extends DeliveryStreamDeps,
		FanOutDeps,
		DeadLetterDeps,
		MessageIntakeDeps,
		Omit<MessageDispatchDeps, "intake"> {
	readonly guard: DeliveryStreamDeps["guard"] & FanOutDeps["guard"] & MessageIntakeDeps["guard"];
	readonly streams: StreamRegistry & CallRegistry;
	readonly audit: DeadLetterDeps["audit"] & RouteAudit;
	readonly interceptors: Interceptors;
}

/** Messages and requests between plugins, to one or to many. */
export function createMessagingService(deps: MessagingServiceDeps): MountedService {
	const { router, clock, guard, streams } = deps;
	const intake = new MessageIntake(deps);
	const dispatch = new MessageDispatch({ ...deps, intake });
	const sendDeps = { ...deps, intake, dispatch };

	const send = async (bytes: Uint8Array, call: Call) => {
		const view = readSend(new WireReader(bytes), SEND_REQUEST);
		const durability = durabilityOf(view.durability, "durability");
		return new Encoded([encodeAccepted(await asPromise((told) => dispatch.send(call, view, "", durability, told)))]);
	};

	const request = async (bytes: Uint8Array, call: Call) => {
		const view = readSend(new WireReader(bytes), REQUEST_REQUEST);
		const deadline = replyDeadline(clock.monotonic(), view.timeoutMs, call, "timeout");
		const { signal } = call;
		const { promise, resolve, reject } = Promise.withResolvers<Encoded>();
		const pending = dispatch.request(call, view, "", deadline, (id, outcome) => {
			if (outcome.kind === "reply") resolve(new Encoded([encodeReply(id, outcome.content, outcome.source)]));
			else reject(outcome.error);
		});
		const giveUp = (error: unknown) => {
			pending.cancel(isDeadline(error) ? "DEADLINE_EXCEEDED" : "CANCELLED");
			reject(error);
		};
		const aborted = () => giveUp(signal.reason);
		signal.addEventListener("abort", aborted, { once: true });
		if (signal.aborted) aborted();
		let watched: Disposable | undefined;
		try {
			// A reply is for those only who may still ask.
			if (!pending.settled) watched = streams.watch(call.caller, giveUp);
			return await promise;
		} catch (error) {
			pending.cancel();
			throw error;
		} finally {
			watched?.[Symbol.dispose]();
			signal.removeEventListener("abort", aborted);
		}
	};

	const acknowledge = async (bytes: Uint8Array, call: Call) => {
		const { sessionId, settlements, maxInFlight } = readAcknowledge(bytes);
		guard.check(call.caller, { kind: "receive" }, undefined, call.requestId);
		const session = router.session(pluginOf(call.caller), sessionId);
		const settled = settlements.map(
			(settlement) => new Promise<AnswerFailure | undefined>((done) => settle(session, settlement, done)),
		);
		if (maxInFlight !== undefined) session.setMaxInFlight(maxInFlight);
		const failures = (await Promise.all(settled)).filter((failure) => failure !== undefined);
		return {
			failures: failures.map(({ deliveryId, error }) => ({
				deliveryId,
				error: entryErrorOf(error, call.requestId),
			})),
		};
	};

	const answer = async (bytes: Uint8Array, call: Call) => {
		const { sessionId, ...view } = readReplyRequest(bytes);
		guard.check(call.caller, { kind: "receive" }, undefined, call.requestId);
		const failure = reply(router.session(pluginOf(call.caller), sessionId), view);
		if (failure !== undefined) throw failure.error;
		return {};
	};

	const receive = ({ instanceId, maxInFlight, policy }: ReceiveRequest, call: Call) => {
		const credit = openingCredit(maxInFlight, "");
		const deliveryPolicy = policyOf(policy, "policy");
		const down = new DeliveryStream(deps, call);
		try {
			down.open(instanceId, credit, deliveryPolicy);
		} catch (error) {
			down.responses.fail(error);
		}
		return down.responses;
	};

	return mount(MessagingService, {
		send: new Raw(send),
		request: new Raw(request),
		sendStream: new Raw(
			(requests: AsyncIterable<Uint8Array>, call: Call) => new SendStream(sendDeps, requests, call).responses,
		),
		attach: new Raw(
			(requests: AsyncIterable<Uint8Array>, call: Call) => new AttachStream(deps, requests, call).responses,
		),
		receive,
		intercept: (requests, call) => new InterceptStream(deps, requests, call).responses,
		acknowledge: new Raw(acknowledge),
		reply: new Raw(answer),
		...deadLetterCalls(deps),
		...topicCalls(deps),
		...fanOutCalls(sendDeps),
		requestMany: (asked: RequestManyRequest, call: Call) => requestMany(sendDeps, asked, call),
		...routeCalls(deps),
	});
}

function isDeadline(reason: unknown): boolean {
	return reason instanceof HubError && reason.reason === "DEADLINE_EXCEEDED";
}
