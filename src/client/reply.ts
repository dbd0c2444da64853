import type { RequestResponse } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { type Data, dataOf } from "./payload.ts";

/** What a handler answered. */
export class Reply<T = Data> {
	/** The answer in its wire form. */
	readonly raw: RequestResponse;
	#data: T | undefined;
	#parsed = false;

	constructor(raw: RequestResponse) {
		this.raw = raw;
	}

	/** The request's id. */
	get id(): string {
		return this.raw.id;
	}

	/** The plugin that answered. */
	get source(): string {
		return this.raw.source;
	}

	get attributes(): Readonly<Record<string, string>> {
		return this.raw.reply?.attributes ?? {};
	}

	/** The JSON value, parsed once, or the bytes. Throws a SyntaxError where the handler's text is not JSON. */
	get data(): T {
		if (!this.#parsed) {
			this.#data = dataOf(this.raw.reply?.data);
			this.#parsed = true;
		}
		return this.#data as T;
	}
}
