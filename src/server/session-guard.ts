import type { ServerHttp2Session, ServerHttp2Stream } from "node:http2";
import type { Clock, Timer } from "../clock/clock.ts";
import type { ServerLimits } from "./server-limits.ts";

/**
 * Watches one HTTP/2 session: it must open a stream soon after it began, and answer pings for as long as it lives.
 * Everything it starts ends with the session.
 */
export class SessionGuard {
	readonly #session: ServerHttp2Session;
	readonly #clock: Clock;
	readonly #limits: ServerLimits;
	#idle: Timer | undefined;
	#keepalive: Timer | undefined;
	#unanswered: Timer | undefined;

	constructor(session: ServerHttp2Session, clock: Clock, limits: ServerLimits) {
		this.#session = session;
		this.#clock = clock;
		this.#limits = limits;
	}

	start(): void {
		this.#session.on("close", () => this.stop());
		this.#idle = this.#clock.after(this.#limits.firstStreamMs, () => this.#judge(() => this.#idle !== undefined));
		this.#keepalive = this.#clock.every(this.#limits.keepaliveIntervalMs, () => this.#ping());
	}

	/** The session has opened a stream, so it is no idle connection. */
	opened(_stream: ServerHttp2Stream): void {
		if (!this.#idle) return;
		this.#idle.cancel();
		this.#idle = undefined;
	}

	stop(): void {
		this.#idle?.cancel();
		this.#idle = undefined;
		this.#keepalive?.cancel();
		this.#unanswered?.cancel();
		this.#unanswered = undefined;
	}

	/** Ends the session if it is still guilty once what it sent is read: a busy process must not blame its peers. */
	#judge(guilty: () => boolean): void {
		setImmediate(() => {
			if (guilty()) this.#session.destroy();
		});
	}

	#ping(): void {
		const session = this.#session;
		if (session.destroyed || session.closed || this.#unanswered) return;
		const unanswered = this.#clock.after(this.#limits.keepaliveTimeoutMs, () => {
			this.#judge(() => this.#unanswered === unanswered);
		});
		this.#unanswered = unanswered;
		const sent = session.ping((error) => {
			if (error) return;
			this.#unanswered?.cancel();
			this.#unanswered = undefined;
		});
		if (!sent) session.destroy();
	}
}
