import type { Transport } from "@connectrpc/connect";
import type { Clock, IdSource } from "../clock/clock.ts";
import type { ClientLogger } from "./logger.ts";
import type { SessionLoop } from "./session-loop.ts";

/** What the parts of one client share. */
export interface ClientContext {
	/** Carries the credential. */
	readonly transport: Transport;
	readonly session: SessionLoop;
	readonly clock: Clock;
	readonly ids: IdSource;
	readonly random: () => number;
	readonly logger: ClientLogger;
	/** Whether the transport can stream both ways. */
	readonly bidi: boolean;
	/** How long a unary call may take, in milliseconds. */
	readonly callTimeoutMs: number;
}
