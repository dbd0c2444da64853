import http2, { type ClientHttp2Session, type IncomingHttpHeaders, type OutgoingHttpHeaders } from "node:http2";
import { fromBinary } from "@bufbuild/protobuf";
import { ErrorInfoSchema, RequestInfoSchema } from "#gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "#gen/google/rpc/status_pb.js";

/** A gRPC frame; `flags` and `declared` may lie. */
export function grpcFrame(message: Uint8Array, flags = 0, declared = message.byteLength): Buffer {
	const frame = Buffer.alloc(5 + message.byteLength);
	frame[0] = flags;
	frame.writeUInt32BE(declared, 1);
	frame.set(message, 5);
	return frame;
}

/** What a peer without any gRPC library sees. */
export interface RawOutcome {
	readonly httpStatus: number | undefined;
	readonly contentType: string | undefined;
	readonly messages: readonly Buffer[];
	/** From the trailers, or from the headers of an answer that has nothing else. */
	readonly grpcStatus: string | undefined;
	readonly grpcMessage: string | undefined;
	/** Of `RequestInfo`. */
	readonly requestId: string | undefined;
	/** Type names of the details, and the `ErrorInfo` among them. */
	readonly details: readonly string[];
	readonly reason: string | undefined;
	readonly metadata: Readonly<Record<string, string>>;
	/** The error code the stream ended with. */
	readonly rstCode: number;
}

export interface RawRequest {
	readonly path: string;
	readonly headers?: OutgoingHttpHeaders;
	readonly body?: readonly Uint8Array[];
	/** Leave the request open. */
	readonly open?: boolean;
	/** Reset the stream with this code once the body is written. */
	readonly reset?: number;
}

/** One call over a session of its own, with every byte in the test's hand. */
export async function rawCall(port: number, request: RawRequest): Promise<RawOutcome> {
	const session = http2.connect(`http://127.0.0.1:${port}`);
	session.on("error", () => {});
	try {
		return await rawCallOn(session, request);
	} finally {
		session.destroy();
	}
}

export function rawCallOn(session: ClientHttp2Session, request: RawRequest): Promise<RawOutcome> {
	return new Promise((resolve) => {
		const stream = session.request({
			":method": "POST",
			":path": request.path,
			"content-type": "application/grpc",
			te: "trailers",
			...request.headers,
		});
		let headers: IncomingHttpHeaders = {};
		let trailers: IncomingHttpHeaders = {};
		const chunks: Buffer[] = [];
		stream.on("response", (given) => {
			headers = given;
		});
		stream.on("trailers", (given) => {
			trailers = given;
		});
		stream.on("data", (chunk: Buffer) => chunks.push(chunk));
		stream.on("error", () => {});
		stream.on("close", () => {
			const last = trailers["grpc-status"] === undefined ? headers : trailers;
			const bin = last["grpc-status-details-bin"] as string | undefined;
			const status = bin === undefined ? undefined : fromBinary(StatusSchema, Buffer.from(bin, "base64"));
			const details = (status?.details ?? []).map((each) => each.typeUrl.replace("type.googleapis.com/", ""));
			const at = details.indexOf("google.rpc.ErrorInfo");
			const info = at < 0 ? undefined : fromBinary(ErrorInfoSchema, status!.details[at]!.value);
			const requestAt = details.indexOf("google.rpc.RequestInfo");
			const requestId =
				requestAt < 0 ? undefined : fromBinary(RequestInfoSchema, status!.details[requestAt]!.value).requestId;
			resolve({
				httpStatus: headers[":status"] === undefined ? undefined : Number(headers[":status"]),
				contentType: headers["content-type"],
				messages: cut(Buffer.concat(chunks)),
				grpcStatus: last["grpc-status"] as string | undefined,
				grpcMessage: last["grpc-message"] === undefined ? undefined : decodeURIComponent(String(last["grpc-message"])),
				details,
				reason: info?.reason,
				metadata: info?.metadata ?? {},
				requestId,
				rstCode: stream.rstCode ?? 0,
			});
		});
		for (const chunk of request.body ?? []) stream.write(chunk);
		if (request.reset !== undefined) stream.close(request.reset);
		else if (!request.open) stream.end();
	});
}

function cut(bytes: Buffer): Buffer[] {
	const messages: Buffer[] = [];
	for (let offset = 0; offset + 5 <= bytes.byteLength; ) {
		const end = offset + 5 + bytes.readUInt32BE(offset + 1);
		messages.push(bytes.subarray(offset + 5, end));
		offset = end;
	}
	return messages;
}

/** Resolves once `condition` holds; rejects after `ms` milliseconds. */
export async function until(condition: () => boolean, ms = 5000): Promise<void> {
	const end = performance.now() + ms;
	while (!condition()) {
		if (performance.now() > end) throw new Error(`not within ${ms} ms: ${condition}`);
		await new Promise((resolve) => setTimeout(resolve, 2));
	}
}
