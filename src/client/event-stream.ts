import { Mailbox } from "../streams/mailbox.ts";
import type { ClientContext } from "./client-context.ts";
import { EventFeed, type FeedRequest } from "./event-feed.ts";
import type { HubEvent } from "./hub-event.ts";
import type { Data } from "./payload.ts";

/**
 * Events one by one for `for await`. The subscription begins with the first `next` and ends with the loop. A gap ends it
 * with POSITION_TRIMMED: a loop has no other way to hear of it.
 */
export async function* streamEvents<T = Data>(
	context: ClientContext,
	request: FeedRequest,
	outer?: AbortSignal,
): AsyncGenerator<HubEvent<T>, void, undefined> {
	const controller = new AbortController();
	const end = () => controller.abort(outer?.reason);
	if (outer?.aborted) return;
	outer?.addEventListener("abort", end, { once: true });
	const batches = new Mailbox<readonly HubEvent[]>({ maxItems: 1 });
	let consumed = () => {};
	const feed = new EventFeed(context, request, {
		deliver(events) {
			batches.push(events);
			return new Promise<void>((resolve) => {
				consumed = resolve;
			});
		},
		onGap: () => false,
	});
	const ended = feed.run(controller.signal).then((error) => batches.close(error));
	try {
		while (await batches.wait(controller.signal)) {
			for (const batch of batches.take()) {
				for (const event of batch) {
					yield event as HubEvent<T>;
					if (controller.signal.aborted) return;
				}
				consumed();
			}
		}
	} finally {
		outer?.removeEventListener("abort", end);
		controller.abort();
		consumed();
		await ended;
	}
}
