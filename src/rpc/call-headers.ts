import type { IncomingHttpHeaders } from "node:http";
import { HubError } from "../hub-error.ts";
import { parseConnectTimeout, parseGrpcTimeout } from "./call-timeout.ts";

/** What a lane reads from the headers of a request. */
export interface CallHeaders {
	readonly authorization: string | undefined;
	/** As the peer sent it; used only where it is well formed. */
	readonly requestId: string | undefined;
	readonly traceparent: string | undefined;
	/** Milliseconds, clamped; undefined: no deadline. */
	readonly timeoutMs: number | undefined;
	/** What cannot be understood. The call is refused with it, once it is open and counted. */
	readonly error: HubError | undefined;
}

/** The same for both lanes. Never throws. */
export function readCallHeaders(headers: IncomingHttpHeaders): CallHeaders {
	const grpc = headers["grpc-timeout"] as string | undefined;
	const connect = headers["connect-timeout-ms"] as string | undefined;
	let timeoutMs: number | undefined;
	let error: HubError | undefined;
	if (grpc !== undefined || connect !== undefined) {
		try {
			timeoutMs = grpc !== undefined ? parseGrpcTimeout(grpc) : parseConnectTimeout(connect!);
		} catch (cause) {
			if (!(cause instanceof HubError)) throw cause;
			error = cause;
		}
	}
	return {
		authorization: headers.authorization,
		requestId: headers["x-request-id"] as string | undefined,
		traceparent: headers.traceparent as string | undefined,
		timeoutMs,
		error,
	};
}
