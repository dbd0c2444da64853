import { type PeerBus, type PeerHandler, type PeerNode, PeerUnavailableError } from "./peer-bus.ts";

/** The bus of a hub that is alone: it has itself only. */
export class SingleNodeBus implements PeerBus {
	readonly nodeId: string;
	readonly #nodes: readonly PeerNode[];
	readonly #handlers = new Map<string, PeerHandler>();

	constructor(node: PeerNode) {
		this.nodeId = node.id;
		this.#nodes = Object.freeze([Object.freeze({ ...node })]);
	}

	nodes(): readonly PeerNode[] {
		return this.#nodes;
	}

	async send(nodeId: string, channel: string, bytes: Uint8Array): Promise<void> {
		this.#deliver(this.#find(nodeId, channel), bytes);
	}

	async publish(channel: string, bytes: Uint8Array): Promise<void> {
		const handler = this.#handlers.get(channel);
		if (handler) this.#deliver(handler, bytes);
	}

	async request(nodeId: string, channel: string, bytes: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
		signal.throwIfAborted();
		const handler = this.#find(nodeId, channel);
		const { promise: aborted, reject } = Promise.withResolvers<never>();
		const onAbort = () => reject(signal.reason);
		signal.addEventListener("abort", onAbort, { once: true });
		try {
			const answer = await Promise.race([handler(bytes, this.nodeId), aborted]);
			if (answer === undefined) throw new PeerUnavailableError(`${channel} gives no answer`);
			return answer;
		} finally {
			signal.removeEventListener("abort", onAbort);
		}
	}

	handle(channel: string, handler: PeerHandler): Disposable {
		if (this.#handlers.has(channel)) throw new Error(`channel ${channel} has a handler`);
		this.#handlers.set(channel, handler);
		return {
			[Symbol.dispose]: () => {
				if (this.#handlers.get(channel) === handler) this.#handlers.delete(channel);
			},
		};
	}

	#find(nodeId: string, channel: string): PeerHandler {
		const handler = nodeId === this.nodeId ? this.#handlers.get(channel) : undefined;
		if (!handler) throw new PeerUnavailableError(`node ${nodeId} does not listen on ${channel}`);
		return handler;
	}

	/** At most once: what a handler throws concerns the handler, not the sender. The call starts at once (BUS-4). */
	#deliver(handler: PeerHandler, bytes: Uint8Array): void {
		try {
			handler(bytes, this.nodeId).catch(() => {});
		} catch {
			// A handler that is no async function may throw at once.
		}
	}
}
