import { Window } from "./window.ts";

/** What a publisher is told to send. */
export interface SendCommand {
	/** The first number. */
	readonly from: number;
	readonly count: number;
	/** How many may be without their answer. */
	readonly window: number;
}

/** Sends one by one, `window` of them unanswered at most; gives the milliseconds until the last answer. */
export async function pipelined(
	{ from, count, window: size }: SendCommand,
	send: (number: number) => Promise<unknown>,
): Promise<number> {
	const window = new Window(size);
	const last = Promise.withResolvers<void>();
	let answered = 0;
	const start = performance.now();
	for (let number = from; number < from + count; number++) {
		const room = window.enter();
		if (room) await room;
		send(number).then(() => {
			window.leave();
			if (++answered === count) last.resolve();
		}, last.reject);
	}
	await last.promise;
	return performance.now() - start;
}
