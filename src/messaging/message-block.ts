import { keys } from "../state/key-layout.ts";

/** Messages of one block at most. */
export const BLOCK_MESSAGES = 256;

/** Their bytes at most, where they are more than one. */
export const BLOCK_BYTES = 256 * 1024;

/** What a block needs of a message. */
export interface BlockMessage {
	/** Bytes. */
	readonly size: number;
	/** The block's own: what it is, and which of its messages this is. */
	readonly stored: { block: unknown; place: number };
}

/**
 * Messages that are stored as one record. Which of them are settled is a record of its own, until all are.
 *
 * A place counts as settled from the moment its settlement is on its way; one settlement of a block is on its way at a time.
 */
export class MessageBlock<M extends BlockMessage> {
	readonly #pluginId: string;
	/** Names it: that of its first message at first. */
	readonly #sequence: number;
	/** By place; empty where the message is settled for good. */
	#messages: (M | undefined)[] = [];
	/** A bit each of those that are settled; undefined: none is. */
	#places: Buffer | undefined;
	#bytes = 0;
	#left = 0;
	#leftBytes = 0;
	/** Whether a record of settled places is stored, or may be. */
	hasPlaces = false;
	/** Its record, where that is kept from when it was written. */
	value: Uint8Array | undefined;
	/** Messages that were not handed out since it was sealed. */
	#unread = 0;

	constructor(pluginId: string, sequence: number) {
		this.#pluginId = pluginId;
		this.#sequence = sequence;
	}

	/** Where it is stored. Made anew each time: there may be a block for every message. */
	get key(): string {
		return keys.mailboxMessage(this.#pluginId, this.#sequence);
	}

	/** Messages that are not settled. */
	get left(): number {
		return this.#left;
	}

	/** Messages that it was stored with. */
	get count(): number {
		return this.#messages.length;
	}

	/** Bytes of the messages that it was stored with. */
	get bytes(): number {
		return this.#bytes;
	}

	/** Bytes of those that are not settled. */
	get leftBytes(): number {
		return this.#leftBytes;
	}

	/** Whether another message belongs with those that it has. */
	hasRoom(size: number): boolean {
		return this.count === 0 || (this.count < BLOCK_MESSAGES && this.#bytes + size <= BLOCK_BYTES);
	}

	add(message: M): void {
		message.stored.block = this;
		message.stored.place = this.#messages.length;
		this.#messages.push(message);
		this.#count(message);
		this.#bytes += message.size;
	}

	/** It takes no more: it keeps no room for others. */
	seal(): void {
		this.#messages = this.#messages.slice();
		this.#unread = this.count;
	}

	/** One of its messages is handed out for the first time since it was sealed. True: it was the last one. */
	handOut(): boolean {
		return --this.#unread === 0;
	}

	/** Steps over a message of so many bytes that was settled before it was loaded. */
	addSettled(size: number): void {
		this.#mark(this.#messages.length, true);
		this.#messages.push(undefined);
		this.#bytes += size;
	}

	/** Those that are not settled for good, in the order of their acceptance. */
	*messages(): Generator<M, void, undefined> {
		for (const message of this.#messages) if (message !== undefined) yield message;
	}

	/** Its settlement is on its way. False: it was before. */
	settle(message: M): boolean {
		const { place } = message.stored;
		if (this.#isSettled(place)) return false;
		this.#mark(place, true);
		this.#left--;
		this.#leftBytes -= message.size;
		return true;
	}

	/** Its settlement could not be stored. */
	unsettle(message: M): void {
		this.#mark(message.stored.place, false);
		this.#count(message);
	}

	/** Its settlement is stored. */
	drop(message: M): void {
		this.#messages[message.stored.place] = undefined;
	}

	/** A `SettledPlacesRecord`'s bits, as they are now. */
	places(): Uint8Array {
		return Buffer.from(this.#places ?? []);
	}

	/** The messages that a block has which is stored in place of this one. */
	survivors(): readonly M[] {
		return [...this.messages()].filter(({ stored }) => !this.#isSettled(stored.place));
	}

	/** It was stored anew, with these messages. */
	replace(survivors: readonly M[]): void {
		this.#messages = [];
		this.#places = undefined;
		this.#bytes = 0;
		this.#left = 0;
		this.#leftBytes = 0;
		this.hasPlaces = false;
		for (const message of survivors) this.add(message);
		this.seal();
	}

	#count(message: M): void {
		this.#left++;
		this.#leftBytes += message.size;
	}

	#isSettled(place: number): boolean {
		return ((this.#places?.[place >> 3] ?? 0) & (1 << (place & 7))) !== 0;
	}

	#mark(place: number, isSettled: boolean): void {
		const at = place >> 3;
		let places = this.#places;
		if (places === undefined || at >= places.byteLength) {
			places = Buffer.alloc(Math.max(at + 1, (this.count + 7) >> 3));
			if (this.#places !== undefined) places.set(this.#places);
			this.#places = places;
		}
		const bit = 1 << (place & 7);
		if (isSettled) places[at]! |= bit;
		else places[at]! &= ~bit;
	}
}
