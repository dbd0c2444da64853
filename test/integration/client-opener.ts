import { onTestFinished } from "vitest";
import { HubClient, type HubClientOptions } from "../../src/client/hub-client.ts";
import { FakeClock, SequentialIds } from "../harness/fake-clock.ts";
import type { FakeHub } from "./client-fake-hub.ts";

/** Says nothing. */
export const quiet = { debug() {}, warn() {}, error() {} };

/** A client of the hub, whose clock the test holds. Closed at the end of the test, which fails where a timer is left. */
export async function open(
	hub: FakeHub,
	{ bidi = true, ...options }: HubClientOptions & { bidi?: boolean } = {},
	clock: FakeClock = new FakeClock(),
): Promise<{ client: HubClient; clock: FakeClock }> {
	const client = await HubClient.connect(
		{ transport: hub.transport(), bidi },
		{ token: "me", clock, ids: new SequentialIds(), random: () => 0.5, logger: quiet, ...options },
	);
	onTestFinished(async () => {
		await client[Symbol.asyncDispose]();
		await clock.advance(0);
		if (clock.pendingTimers > 0) throw new Error(`${clock.pendingTimers} timers are left after disposal`);
	});
	return { client, clock };
}

/** Moves the clock until the condition holds. */
export async function until(clock: FakeClock, condition: () => boolean): Promise<void> {
	for (let turn = 0; !condition(); turn++) {
		if (turn > 300) throw new Error("the condition never held");
		await clock.advance(500);
	}
}
