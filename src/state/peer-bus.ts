/**
 * The other hub nodes that share this hub's state. A single node has itself only.
 *
 * - BUS-1 `nodes` always holds this node.
 * - BUS-2 `send` and `request` to a node that is not there reject with `PeerUnavailableError`; delivery is at most once.
 * - BUS-3 `publish` reaches this node's own listeners too.
 * - BUS-4 Messages from one node to another on one channel keep their order.
 */
export interface PeerBus {
	readonly nodeId: string;
	nodes(): readonly PeerNode[];
	send(nodeId: string, channel: string, bytes: Uint8Array): Promise<void>;
	publish(channel: string, bytes: Uint8Array): Promise<void>;
	request(nodeId: string, channel: string, bytes: Uint8Array, signal: AbortSignal): Promise<Uint8Array>;
	/** One handler a channel. What it returns answers a `request` and is ignored for the rest. */
	handle(channel: string, handler: PeerHandler): Disposable;
}

export type PeerHandler = (bytes: Uint8Array, from: string) => Promise<Uint8Array | undefined>;

export interface PeerNode {
	readonly id: string;
	/** Milliseconds since the Unix epoch. */
	readonly startTime: number;
	readonly version: string;
}

export class PeerUnavailableError extends Error {
	override readonly name = "PeerUnavailableError";
}
