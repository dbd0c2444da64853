/** Everything a hub may be told. `config.ts` fills it from flags, environment and a file; an embedder by hand. */
export interface HubOptions {
	/** Where to listen. Port 0 picks a free one. */
	readonly listen: { readonly host: string; readonly port: number };
	/** The folder for the state and the operator token. Created with mode 0700 where it is missing. */
	readonly dataDirectory: string;
	/** Where the state lives. */
	readonly state: "memory" | "embedded";
	/** Lets `Register` make ids without a credential. Loopback only. */
	readonly dev: boolean;
	/** False serves plain gRPC through Connect as well. */
	readonly fastLane: boolean;
	/** PEM files; both or none. They are read again when they change. */
	readonly tls: { readonly certFile: string; readonly keyFile: string } | undefined;
	/** Origins that browsers may call from, such as `https://app.example`; `*` for any. */
	readonly corsOrigins: readonly string[];
	readonly logLevel: "debug" | "info" | "warn" | "error" | "silent";
	/** Replaces the operator token at this start. */
	readonly newOperatorToken: boolean;
	/** How long an instance's lease lasts without a heartbeat, in milliseconds. */
	readonly leaseMs: number;
	/** HTTP/2 keepalive: a ping after so many silent milliseconds, and how long its answer may take. */
	readonly keepalive: { readonly intervalMs: number; readonly timeoutMs: number };
	/** How long open streams may take to end at shutdown, in milliseconds. */
	readonly drainMs: number;
	/** How long ids of events and durable messages are remembered, and how many of events. */
	readonly idWindow: { readonly ms: number; readonly ids: number };
	/** What the event log keeps; 0 means no bound. */
	readonly retention: { readonly maxAgeMs: number; readonly maxRecords: number; readonly maxBytes: number };
	/** Bytes that messages which are not settled may take of this process, of all recipients together. */
	readonly messageMemoryBytes: number;
	/** Connections at once. */
	readonly maxConnections: number;
}

const DAY_MS = 86_400_000;

export const DEFAULT_OPTIONS: HubOptions = Object.freeze({
	listen: { host: "127.0.0.1", port: 50051 },
	dataDirectory: "./data",
	state: "embedded",
	dev: false,
	fastLane: true,
	tls: undefined,
	corsOrigins: [],
	logLevel: "info",
	newOperatorToken: false,
	leaseMs: 30_000,
	keepalive: { intervalMs: 20_000, timeoutMs: 10_000 },
	drainMs: 8_000,
	idWindow: { ms: 120_000, ids: 2_000_000 },
	retention: { maxAgeMs: 7 * DAY_MS, maxRecords: 10_000_000, maxBytes: 8 * 1024 ** 3 },
	messageMemoryBytes: 32 * 1024 * 1024,
	maxConnections: 10_000,
} satisfies HubOptions);
