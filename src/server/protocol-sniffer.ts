import type { Socket } from "node:net";
import type { Clock } from "../clock/clock.ts";

/** What a connection speaks, as its first bytes say. */
export type WireProtocol = "tls" | "http2" | "http1";

/** The first byte of a TLS handshake record. */
const TLS_HANDSHAKE = 0x16;

/** How an HTTP/2 client begins: `PRI * HTTP/2.0`. No HTTP/1.1 method starts with these three letters. */
const PREFACE = Buffer.from("PRI");

/**
 * Looks at the first bytes of a connection and puts them back, so that whoever `route` hands it to reads it from the
 * start. A connection that is silent for `timeoutMs` is destroyed. `route` is called once at most.
 */
export function sniff(
	socket: Socket,
	clock: Clock,
	timeoutMs: number,
	route: (protocol: WireProtocol, socket: Socket) => void,
): void {
	let decided = false;
	const silence = clock.after(timeoutMs, () => {
		// Only once what it sent is read: a busy process must not blame its peers.
		setImmediate(() => decided || socket.destroy());
	});
	const stop = () => {
		decided = true;
		silence.cancel();
		socket.off("readable", look);
		socket.off("close", stop);
		socket.off("end", hangUp);
	};
	const hangUp = () => socket.destroy();
	// Bytes that do not decide yet are held here, not put back: putting back wakes the reader again at once, for ever.
	let held: Buffer | undefined;
	const look = () => {
		const bytes: Buffer | null = socket.read();
		if (!bytes) return;
		held = held ? Buffer.concat([held, bytes]) : bytes;
		const protocol = guess(held);
		if (protocol === undefined) return;
		stop();
		socket.unshift(held);
		route(protocol, socket);
	};
	socket.on("readable", look);
	socket.on("end", hangUp);
	socket.on("close", stop);
}

function guess(bytes: Buffer): WireProtocol | undefined {
	if (bytes[0] === TLS_HANDSHAKE) return "tls";
	const length = Math.min(bytes.byteLength, PREFACE.byteLength);
	if (!bytes.subarray(0, length).equals(PREFACE.subarray(0, length))) return "http1";
	return length === PREFACE.byteLength ? "http2" : undefined;
}
