import { HubError } from "../hub-error.ts";

/** Bounds on the streams that anyone may open. */
export interface PublicStreamLimits {
	readonly publicStreamsPerConnection: number;
	readonly publicStreams: number;
}

/**
 * Counts the open streams of RPCs that need no credential, which no principal's bound holds for. An entry lives as long as
 * its connection has such a stream.
 */
export class PublicStreams {
	readonly #limits: PublicStreamLimits;
	readonly #byConnection = new Map<string, number>();
	#open = 0;

	constructor(limits: PublicStreamLimits) {
		this.#limits = limits;
	}

	/** Takes a place for a stream of the connection, to be given back by `release`. Throws LIMIT_EXCEEDED. */
	take(connection: string): void {
		const own = this.#byConnection.get(connection) ?? 0;
		const { publicStreamsPerConnection, publicStreams } = this.#limits;
		if (own >= publicStreamsPerConnection) throw tooMany("one connection", publicStreamsPerConnection);
		if (this.#open >= publicStreams) throw tooMany("all connections", publicStreams);
		this.#byConnection.set(connection, own + 1);
		this.#open++;
	}

	release(connection: string): void {
		const own = this.#byConnection.get(connection);
		if (own === undefined) return;
		this.#open--;
		if (own === 1) this.#byConnection.delete(connection);
		else this.#byConnection.set(connection, own - 1);
	}
}

function tooMany(whose: string, limit: number): HubError {
	return new HubError("LIMIT_EXCEEDED", `${limit} streams without need of a credential are open on ${whose}`, {
		metadata: { limit: String(limit) },
		quota: { subject: whose, description: `at most ${limit} open streams that need no credential` },
	});
}
