import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { HubError } from "../../src/hub-error.ts";
import { type Call, Encoded, mount, Raw } from "../../src/rpc/call.ts";
import { METHOD_POLICIES, type MethodPolicy } from "../../src/rpc/method-policy.ts";
import { StorageError } from "../../src/state/kv-store.ts";
import { type EchoRequest, EchoRequestSchema, EchoResponseSchema, EchoService } from "./gen/echo_pb.js";

const row: MethodPolicy = { callers: "public", rateClass: "none", maxRequestBytes: 64 * 1024, audit: false };

/** The rows of the echo service, beside those of the hub. `Unlisted` has none. */
export const ECHO_POLICIES = new Map([
	...METHOD_POLICIES,
	["/test.echo.v1.EchoService/Unary", row],
	["/test.echo.v1.EchoService/RawUnary", { ...row, callers: "authenticated" }],
	["/test.echo.v1.EchoService/Server", row],
	["/test.echo.v1.EchoService/Bidi", row],
	["/test.echo.v1.EchoService/RawBidi", row],
] satisfies [string, MethodPolicy][]);

/** What the echo service has seen, so that a test can wait for it. */
export interface EchoTrace {
	/** Calls whose signal fired, with the reason's reason. */
	readonly aborted: string[];
	/** Streams whose handler ran its `finally`. */
	released: number;
	/** Handlers that began to wait. */
	waiting: number;
	/** Requests that bidi handlers have taken. */
	taken: number;
}

/** Answers with what it was sent; the text of a request asks for special behaviour. */
export function echoService(trace: EchoTrace = { aborted: [], waiting: 0, released: 0, taken: 0 }) {
	const watch = (call: Call) => {
		trace.waiting++;
		call.signal.addEventListener("abort", () => {
			trace.aborted.push(call.signal.reason instanceof HubError ? call.signal.reason.reason : "?");
		});
	};
	const special = async (request: EchoRequest, call: Call): Promise<void> => {
		switch (request.text) {
			case "fail":
				throw new HubError("PLUGIN_NOT_FOUND", "no plugin “wetter” 100%", {
					metadata: { plugin: "wetter" },
					resource: { type: "plugin", name: "wetter" },
				});
			case "field":
				throw HubError.field("text", "may not be field");
			case "rich":
				throw new HubError("RATE_LIMIT_EXCEEDED", "too fast", {
					retryAfterMs: 1500,
					quota: { subject: "plugin:a", description: "100 a minute" },
					precondition: { type: "T", subject: "s", description: "d" },
				});
			case "crash":
				throw new TypeError("secret detail");
			case "storage":
				throw new StorageError("full", "not-written", "ENOSPC");
			case "wait":
				watch(call);
				await new Promise((_, reject) => {
					call.signal.addEventListener("abort", () => reject(call.signal.reason));
				});
		}
	};
	return mount(EchoService, {
		async unary(request, call) {
			if (request.text !== "") await special(request, call);
			return { text: request.text, data: request.data };
		},
		rawUnary: new Raw(async (bytes: Uint8Array) => {
			const request = fromBinary(EchoRequestSchema, bytes);
			const response = create(EchoResponseSchema, { text: request.text, data: request.data });
			const wire = toBinary(EchoResponseSchema, response);
			const middle = wire.byteLength >> 1;
			return new Encoded([wire.subarray(0, middle), wire.subarray(middle)]);
		}),
		async *server(request, call) {
			try {
				for (let index = 0; index < request.count; index++) {
					yield { text: request.text, data: request.data, index };
				}
				await special(request, call);
			} finally {
				trace.released++;
			}
		},
		async *bidi(requests, call) {
			try {
				let index = 0;
				for await (const request of requests) {
					trace.taken++;
					await special(request, call);
					yield { text: request.text, data: request.data, index: index++ };
				}
			} finally {
				trace.released++;
			}
		},
		rawBidi: new Raw(async function* (requests: AsyncIterable<Uint8Array>) {
			for await (const bytes of requests) {
				const { text, data } = fromBinary(EchoRequestSchema, bytes);
				yield new Encoded([toBinary(EchoResponseSchema, create(EchoResponseSchema, { text, data }))]);
			}
		}),
		async unlisted() {
			return {};
		},
	});
}
