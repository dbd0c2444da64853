// Runs in a browser: the SDK over fetch. The test reads `window.outcome`.
import { connect, HubClientError } from "../../../src/client/web.ts";

interface Setup {
	readonly url: string;
	readonly token: string;
}

declare global {
	interface Window {
		setup: Setup;
		outcome: Promise<object>;
	}
}

async function exercise({ url, token }: Setup): Promise<object> {
	const manifest = { manifest_version: 2, id: "interop-browser", name: "Interop Browser", version: "1.0.0" };
	const hub = await connect({ url, token, manifest });
	try {
		const received = Promise.withResolvers<{ id: string; n: number; source: string }>();
		await hub.events.on<{ n: number }>("interop.browser.*", (event) =>
			received.resolve({ id: event.id, n: event.data.n, source: event.source }),
		);
		const emitted = await hub.events.emit("interop.browser.done", { n: 7 });
		const event = await received.promise;
		const reply = await hub.messages.request<{ n: number }>("interop-echo", "echo", { n: 8 });
		await hub.messages.handle<{ n: number }>("double", (request) => ({ n: request.data.n * 2 })).ready;
		const own = await hub.messages.request<{ n: number }>("interop-browser", "double", { n: 9 });
		const refused = await hub.events.emit("a..b", {}).catch((error: unknown) => error);
		return {
			event,
			emitted: emitted.id,
			reply: reply.data.n,
			own: own.data.n,
			refused: refused instanceof HubClientError ? refused.reason : String(refused),
		};
	} finally {
		await hub[Symbol.asyncDispose]();
	}
}

window.outcome = exercise(window.setup);
