export const FILLER = "x".repeat(173);

export function paddedNumber(number: number): string {
	return String(number).padStart(9, "0");
}

/** 200 bytes of JSON that carry `number`. */
export function payloadOf(number: number): string {
	return `{"n":"${paddedNumber(number)}","text":"${FILLER}"}`;
}

export function numberOf(payload: string): number {
	return Number(payload.slice(6, 15));
}

/** The same as bytes. */
export function payloadBytes(number: number): Uint8Array {
	return Buffer.from(payloadOf(number), "latin1");
}

/** Throws on what is not a payload of 200 bytes. */
export function numberIn(payload: Uint8Array): number {
	if (payload.byteLength !== 200) throw new Error(`a payload has ${payload.byteLength} bytes`);
	return numberOf(Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength).toString("latin1"));
}

/** Counts what a subscriber gets, in rounds of one size; whatever is missing, repeated or out of order ends the worker. */
export class Arrivals {
	readonly #round: number;
	readonly #onRound: (ms: number) => void;
	#next = 0;
	#began = 0;

	constructor(round: number, onRound: (ms: number) => void) {
		this.#round = round;
		this.#onRound = onRound;
	}

	take(payload: string): void {
		this.takeNumber(numberOf(payload));
	}

	takeNumber(number: number): void {
		if (number !== this.#next) throw new Error(`message ${number} came where ${this.#next} was due`);
		if (number % this.#round === 0) this.#began = performance.now();
		this.#next++;
		if (this.#next % this.#round === 0) this.#onRound(performance.now() - this.#began);
	}
}
