import http from "node:http";
import { fromBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema } from "#gen/google/rpc/error_details_pb.js";
import { type Failure, failureFrom } from "./failure.ts";

interface ErrorBody {
	readonly code: string;
	readonly message?: string;
	readonly details?: readonly { readonly type: string; readonly value: string }[];
}

const DETAILS = [ErrorInfoSchema, BadRequestSchema];
const CODES = new Map(
	Object.entries(Code).flatMap(([name, code]) =>
		typeof code === "number" ? [[name.replace(/(?<=[a-z])(?=[A-Z])/g, "_").toLowerCase(), code] as const] : [],
	),
);

/** Posts a body as it is, over HTTP/1.1 and a connection of its own, as a unary call in Connect's JSON form. */
export async function postJson(url: string, path: string, token: string, body: string | Buffer): Promise<unknown> {
	const headers = {
		"content-type": "application/json",
		...(token === "" ? {} : { authorization: `Bearer ${token}` }),
	};
	const { promise, resolve, reject } = Promise.withResolvers<{ status: number; text: string }>();
	const request = http.request(`${url}${path}`, { method: "POST", headers, agent: false }, (response) => {
		const chunks: Buffer[] = [];
		response.on("data", (chunk: Buffer) => chunks.push(chunk));
		response.on("end", () => resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() }));
		response.on("error", reject);
	});
	request.on("error", reject);
	request.end(body);
	const { status, text } = await promise;
	if (status === 200) return JSON.parse(text);
	throw toError(JSON.parse(text) as ErrorBody);
}

function toError({ code, message, details = [] }: ErrorBody): ConnectError {
	const outgoing = details.flatMap(({ type, value }) => {
		const desc = DETAILS.find(({ typeName }) => typeName === type);
		return desc ? [{ desc, value: fromBinary(desc, Buffer.from(value, "base64")) }] : [];
	});
	return new ConnectError(message ?? "", CODES.get(code) ?? Code.Unknown, undefined, outgoing as never);
}

/** How a post that must fail failed. */
export async function postFailure(...args: Parameters<typeof postJson>): Promise<Failure> {
	try {
		await postJson(...args);
	} catch (error) {
		if (error instanceof ConnectError) return failureFrom(error);
		throw error;
	}
	throw new Error("the call did not fail");
}
