import type { DescMessage } from "@bufbuild/protobuf";
import { type Code, ConnectError } from "@connectrpc/connect";
import { ErrorInfoSchema } from "#gen/google/rpc/error_details_pb.js";

/** The error that a client gets from a hub that refuses a call for this reason. */
export function hubError(reason: string, code: Code, metadata: Record<string, string> = {}): ConnectError {
	const value = { reason, domain: "hub.qirvo", metadata };
	return new ConnectError(reason.toLowerCase(), code, undefined, [{ desc: ErrorInfoSchema as DescMessage, value }]);
}
