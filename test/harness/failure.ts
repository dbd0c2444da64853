import { Code, ConnectError } from "@connectrpc/connect";
import {
	BadRequestSchema,
	ErrorInfoSchema,
	PreconditionFailureSchema,
	QuotaFailureSchema,
	ResourceInfoSchema,
	RetryInfoSchema,
} from "#gen/google/rpc/error_details_pb.js";

/** How a call failed, in the terms of the contract. */
export interface Failure {
	/** The canonical code's name. */
	readonly code: string;
	/** Undefined where the failure is the client's own and not the hub's. */
	readonly reason: string | undefined;
	readonly metadata: Readonly<Record<string, string>>;
	/** The fields that `BadRequest` names. */
	readonly fields: readonly string[];
	/** Which other standard details there are. */
	readonly details: readonly string[];
	readonly message: string;
}

const OTHERS = [RetryInfoSchema, QuotaFailureSchema, PreconditionFailureSchema, ResourceInfoSchema];

/** Throws where the hub said why and not with exactly one `ErrorInfo` of its domain. */
export function failureFrom(error: ConnectError): Failure {
	const infos = error.findDetails(ErrorInfoSchema);
	if (error.details.length > 0 && (infos.length !== 1 || infos[0]?.domain !== "hub.qirvo")) {
		throw new Error(`not exactly one ErrorInfo of hub.qirvo: ${JSON.stringify(infos)}`, { cause: error });
	}
	return {
		code: Code[error.code],
		reason: infos[0]?.reason,
		metadata: infos[0]?.metadata ?? {},
		fields: error.findDetails(BadRequestSchema).flatMap((each) => each.fieldViolations.map(({ field }) => field)),
		details: OTHERS.filter((schema) => error.findDetails(schema as typeof RetryInfoSchema).length > 0).map(
			(schema) => schema.name,
		),
		message: error.rawMessage,
	};
}

/** How a call that must fail failed. */
export async function failureOf(call: Promise<unknown>): Promise<Failure> {
	let answer: unknown;
	try {
		answer = await call;
	} catch (error) {
		return failureFrom(ConnectError.from(error));
	}
	throw new Error("the call did not fail", { cause: answer });
}
