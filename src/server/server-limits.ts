/**
 * What the hub's port takes from peers it knows nothing about. Node's own defaults leave most of these open.
 * Times are milliseconds, sizes bytes, unless a name says otherwise.
 */
export const SERVER_LIMITS = Object.freeze({
	/** Open TCP connections; further ones are closed at once. */
	connections: 10_000,
	/** A connection that has sent nothing by then is closed. */
	firstByteMs: 5_000,
	/** A TLS handshake that is not complete by then is given up. */
	handshakeMs: 5_000,
	/** An HTTP/2 session that opens no stream in this time after it began is destroyed. */
	firstStreamMs: 3_000,
	/** How often an HTTP/2 session is pinged. */
	keepaliveIntervalMs: 20_000,
	/** A ping without an answer in this time ends its session. */
	keepaliveTimeoutMs: 10_000,
	/** How long after its headers the request of a call that takes one may take to arrive. */
	requestBodyMs: 30_000,
	/** Received and not yet handled, of one principal; and of all callers without a credential together. */
	requestBytes: 64 * 1024 * 1024,
	/** Open streams of RPCs that need no credential, such as `Health.Watch`: of one connection, and in all. */
	publicStreamsPerConnection: 16,
	publicStreams: 1024,
	/** How long a finished call waits for a peer that does not take its answer. */
	lingerMs: 10_000,
	/** Streams a session may have open at once. */
	concurrentStreams: 1024,
	/** Received and not yet read, of one stream. */
	streamWindowBytes: 1024 * 1024,
	/** Received and not yet processed, of one session. */
	sessionWindowBytes: 8 * 1024 * 1024,
	/** Fields of one header block. */
	headerPairs: 64,
	/** One header block, uncompressed. */
	headerBytes: 16 * 1024,
	/** What one session may hold in its HTTP/2 library, answers that wait for the peer included, in megabytes. */
	sessionMemoryMegabytes: 128,
	/** Malformed frames before a session is ended. */
	invalidFrames: 100,
	/**
	 * Streams refused in a row before a session is ended. More than a session may have open: Node counts a stream a little
	 * longer than its peer does, so that one who uses all of them is refused some without having done wrong.
	 */
	rejectedStreams: 4096,
	/** Resets a peer may send at once, and then how many a second. */
	streamResetBurst: 1000,
	streamResetPerSecond: 200,
	/** Entries of one SETTINGS frame. */
	settings: 32,
	/** HTTP/1.1: all headers, and the whole request. */
	http1HeadersMs: 10_000,
	http1RequestMs: 60_000,
	/** HTTP/1.1: a connection without a request. */
	http1IdleMs: 30_000,
	/** HTTP/1.1: requests on one connection before it is closed. */
	http1Requests: 10_000,
	/** HTTP/1.1: how often connections are checked for the times above. */
	http1CheckMs: 2_000,
});

/** The same with values of the operator's or a test's choosing. */
export type ServerLimits = { readonly [K in keyof typeof SERVER_LIMITS]: number };
