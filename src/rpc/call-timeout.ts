import { HubError } from "../hub-error.ts";

/** The longest deadline a call may have, in milliseconds; longer ones are cut to it. A timer holds no more. */
export const MAX_TIMEOUT_MS = 24 * 24 * 60 * 60 * 1000;

const GRPC_TIMEOUT = /^(\d{1,8})([HMSmun])$/;
const CONNECT_TIMEOUT = /^\d{1,10}$/;

const UNIT_MS: ReadonlyMap<string, number> = new Map([
	["H", 3_600_000],
	["M", 60_000],
	["S", 1000],
	["m", 1],
	["u", 1e-3],
	["n", 1e-6],
]);

/** Milliseconds of a `grpc-timeout` header: at most eight digits and a unit. Throws MALFORMED_REQUEST on anything else. */
export function parseGrpcTimeout(value: string): number {
	const match = GRPC_TIMEOUT.exec(value);
	if (!match) throw malformed("grpc-timeout");
	return Math.min(Number(match[1]) * UNIT_MS.get(match[2]!)!, MAX_TIMEOUT_MS);
}

/** Milliseconds of a `connect-timeout-ms` header: at most ten digits. Throws MALFORMED_REQUEST on anything else. */
export function parseConnectTimeout(value: string): number {
	if (!CONNECT_TIMEOUT.test(value)) throw malformed("connect-timeout-ms");
	return Math.min(Number(value), MAX_TIMEOUT_MS);
}

function malformed(header: string): HubError {
	return new HubError("MALFORMED_REQUEST", `${header} is not a timeout`, { metadata: { header } });
}
