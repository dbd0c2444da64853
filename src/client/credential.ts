import type { Transport } from "@connectrpc/connect";

/** A bearer token, or what gives one: asked at each connection, so that a renewed token is picked up. */
export type Token = string | (() => string | Promise<string>);

/** The token that calls carry. A hub in development mode gives one to whom it does not know. */
export class Credential {
	readonly #source: Token | undefined;
	#token: string | undefined;
	#given = false;

	constructor(source: Token | undefined) {
		this.#source = source;
		if (typeof source === "string") this.#token = source;
	}

	/** Asks the source again, where it is a function. */
	async refresh(): Promise<void> {
		if (typeof this.#source === "function") this.#token = await this.#source();
	}

	/** Takes a token that the hub gave. */
	accept(token: string): void {
		this.#token = token;
		this.#given = true;
	}

	/**
	 * Whether a refused token can be followed by another: a development hub that was restarted forgot the token that it
	 * gave, and a source may have renewed an expired one.
	 */
	mayRenew(reason: string): boolean {
		if (this.#given) {
			this.#given = false;
			this.#token = undefined;
			return true;
		}
		return typeof this.#source === "function" && reason === "CREDENTIAL_EXPIRED";
	}

	addTo(header: HeadersInit | undefined): HeadersInit | undefined {
		if (this.#token === undefined) return header;
		const headers = new Headers(header);
		if (!headers.has("authorization")) headers.set("authorization", `Bearer ${this.#token}`);
		return headers;
	}
}

/** The same transport, with the credential on every call. */
export function withCredential(transport: Transport, credential: Credential): Transport {
	return {
		unary: (method, signal, timeoutMs, header, input, contextValues) =>
			transport.unary(method, signal, timeoutMs, credential.addTo(header), input, contextValues),
		stream: (method, signal, timeoutMs, header, input, contextValues) =>
			transport.stream(method, signal, timeoutMs, credential.addTo(header), input, contextValues),
	};
}
