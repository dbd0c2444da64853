import { HubError } from "../../src/hub-error.ts";

/** What a promise was refused with. */
export async function refusal(promise: Promise<unknown>): Promise<HubError> {
	try {
		await promise;
	} catch (error) {
		if (error instanceof HubError) return error;
		throw error;
	}
	throw new Error("it was not refused");
}
