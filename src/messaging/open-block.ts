import type { KvWrite } from "../state/kv-store.ts";
import { WireWriter } from "../wire/wire-writer.ts";
import type { MessageDisposition } from "./accepted-message.ts";
import { recordSize, writeRecord } from "./mailbox-record.ts";
import { BLOCK_BYTES } from "./message-block.ts";
import type { StoredBlock, StoredMessage } from "./queued-message.ts";
import type { StampedMessage } from "./stamped-message.ts";

/** Who a message is stored for; told once. */
export interface MessageOwner {
	/** Returns what its sender is told. */
	stored(message: StoredMessage): MessageDisposition;
	notStored(message: StoredMessage, error: unknown): void;
}

/** Room that a block begins with at least, and at most. */
const FIRST_BYTES = 512;
const MOST_FIRST_BYTES = BLOCK_BYTES / 2;

/** A block that takes more messages until it goes. What it is stored as is written as they come: nothing is copied twice. */
export class OpenBlock {
	readonly block: StoredBlock;
	readonly owner: MessageOwner;
	readonly messages: StoredMessage[] = [];
	readonly #writer: WireWriter;
	#value: Uint8Array | undefined;

	/** `bytes`: what it will probably have. */
	constructor(block: StoredBlock, owner: MessageOwner, bytes: number) {
		this.block = block;
		this.owner = owner;
		this.#writer = new WireWriter(Math.min(Math.max(bytes, FIRST_BYTES), MOST_FIRST_BYTES));
	}

	/** Returns the bytes that came to it. */
	add(message: StoredMessage, content: StampedMessage): number {
		const before = this.#writer.length;
		this.block.add(message);
		this.messages.push(message);
		this.#writer.header(1, recordSize(message));
		writeRecord(this.#writer, message, content);
		return this.#writer.length - before;
	}

	/** It takes no more. */
	seal(): KvWrite {
		this.block.seal();
		return { key: this.block.key, value: this.value };
	}

	/** Its `MessageBlockRecord`, once it is sealed. */
	get value(): Uint8Array {
		this.#value ??= this.#writer.finish();
		return this.#value;
	}
}
