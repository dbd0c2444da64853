// One plugin of the demo, in a process of its own. The demo tells it what to do next over the process channel.
import { connect } from "../src/client/index.ts";

const { DEMO_URL: url = "", DEMO_TOKEN: token = "", DEMO_MANIFEST: manifest = "", DEMO_RUN: run = "" } = process.env;

/** What the demo asks of a plugin process. */
export type DemoStep =
	| { readonly do: "emit"; readonly texts: readonly string[] }
	| { readonly do: "subscribe"; readonly expect: number }
	| { readonly do: "answer" }
	| { readonly do: "ask"; readonly whom: string }
	| { readonly do: "leave" };

const EVENT_TYPE = "demo.note.written";

await using hub = await connect({ url, token, manifest });
report("is registered and online");
let received = 0;
let expected = 0;
let complete = Promise.withResolvers<void>();

for await (const step of steps()) {
	switch (step.do) {
		case "emit":
			for (const text of step.texts) {
				const { position } = await hub.events.emit(EVENT_TYPE, { text }, { subject: run });
				report(`emitted   ${EVENT_TYPE}  "${text}"  stored as number ${position.sequence}`);
			}
			break;
		case "subscribe":
			expected = step.expect;
			if (received === 0) {
				await hub.events.on<{ text: string }>(
					EVENT_TYPE,
					(event) => {
						const when = event.isReplay ? "history" : "live";
						report(`received  ${event.type}  "${event.data.text}"  from ${event.source}  (${when})`);
						received++;
						if (received >= expected) complete.resolve();
					},
					{ start: "everything", filter: `event.subject == "${run}"` },
				);
			} else complete = Promise.withResolvers<void>();
			if (received >= expected) complete.resolve();
			await complete.promise;
			break;
		case "answer":
			await hub.messages.handle<{ name: string }>("greet", (request) => {
				report(`was asked "greet" by ${request.source}`);
				return { greeting: `Hello ${request.data.name}, ${received} events reached me so far.` };
			}).ready;
			break;
		case "ask": {
			const reply = await hub.messages.request<{ greeting: string }>(step.whom, "greet", { name: "neighbour" });
			report(`asked     ${step.whom} and got: "${reply.data.greeting}"`);
			break;
		}
		case "leave":
			process.disconnect();
			break;
	}
	if (step.do !== "leave") process.send?.({ done: step.do });
}

async function* steps(): AsyncGenerator<DemoStep> {
	const queue: DemoStep[] = [];
	let wake = () => {};
	let open = true;
	process.on("message", (step: DemoStep) => {
		queue.push(step);
		wake();
	});
	process.on("disconnect", () => {
		open = false;
		wake();
	});
	process.send?.({ done: "start" });
	while (open || queue.length > 0) {
		const step = queue.shift();
		if (step) yield step;
		else {
			await new Promise<void>((resolve) => {
				wake = resolve;
			});
		}
	}
}

function report(text: string): void {
	process.send?.({ report: text });
}
