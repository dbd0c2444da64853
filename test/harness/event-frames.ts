import { expect } from "vitest";
import type { SubscribeResponse } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { HubError } from "../../src/hub-error.ts";
import type { EventHub, FakeCall } from "./event-hub.ts";

/** The frames of a subscription. */
export type Frames = AsyncGenerator<SubscribeResponse, void, undefined>;

/** The next frame of a stream that has not ended. */
export async function next(frames: Frames): Promise<SubscribeResponse> {
	const { value, done } = await frames.next();
	if (done) throw new Error("the stream has ended");
	return value;
}

/** A subscription that has sent `ready` and `caught_up`. */
export async function openLive(
	hub: EventHub,
	request: Parameters<EventHub["subscribe"]>[0],
	call?: FakeCall,
): Promise<Frames> {
	const frames = hub.subscribe(request, call);
	expect((await next(frames)).frame.case).toBe("ready");
	expect((await next(frames)).frame.case).toBe("caughtUp");
	return frames;
}

/** The subjects of the events of a batch. */
export function subjectsOf(frame: SubscribeResponse): string[] {
	if (frame.frame.case !== "batch") throw new Error(`a ${frame.frame.case} frame`);
	return frame.frame.value.events.map((event) => event.subject);
}

/** What a stream fails with instead of its next frame. */
export async function failure(frames: Frames): Promise<HubError> {
	const error = await frames.next().then(
		() => undefined,
		(thrown) => thrown,
	);
	expect(error).toBeInstanceOf(HubError);
	return error;
}

/** The start of a subscription that wants all history. */
export const everything = { from: { case: "everything" as const, value: true } };
