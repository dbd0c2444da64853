/** How deliveries of stored messages are repeated until they are acknowledged. */
export interface DeliveryPolicy {
	/** How long a delivery may go without an answer before it counts as failed, in milliseconds. */
	readonly ackWaitMs: number;
	/** Milliseconds to wait after the first failed delivery, the second, ...; the last for all that follow. Empty: none. */
	readonly backoffMs: readonly number[];
	/** Failed deliveries after which a message becomes a dead letter. */
	readonly maxDeliveries: number;
}

export const DEFAULT_POLICY: DeliveryPolicy = Object.freeze({ ackWaitMs: 30_000, backoffMs: [], maxDeliveries: 5 });

/** How long to wait after the `attempt`-th delivery has failed, in milliseconds. */
export function backoffAfter({ backoffMs }: DeliveryPolicy, attempt: number): number {
	return backoffMs[Math.min(attempt, backoffMs.length) - 1] ?? 0;
}
