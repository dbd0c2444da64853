import { HubError } from "../hub-error.ts";

/** Runs `run`; the fields that a refusal of it names are inside of `path`. */
export function placing<T>(path: string, run: () => T): T {
	try {
		return run();
	} catch (error) {
		throw placedError(error, path);
	}
}

/** The refusal with its fields inside of `path`; anything else as it is. */
export function placedError(error: unknown, path: string): unknown {
	return error instanceof HubError ? error.placed((field) => `${path}.${field}`) : error;
}
