/** How often a stream says that it is alive while it has nothing else to say, in milliseconds. */
export const HEARTBEAT_MS = 15_000;
