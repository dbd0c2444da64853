import { hashText } from "../text-hash.ts";

/** Keys of one log in the databases that all logs share: the log's number, then sequences as 48-bit numbers. */
export class LogKeys {
	readonly #number: number;

	constructor(number: number) {
		this.#number = number;
	}

	/** Of a block, or of a group's ids. */
	at(sequence: number): Buffer {
		const key = Buffer.allocUnsafe(8);
		key.writeUInt16BE(this.#number, 0);
		key.writeUIntBE(sequence, 2, 6);
		return key;
	}

	/** Of the index entry for a topic whose last block starts at `sequence`. */
	topic(topic: string, sequence: number): Buffer {
		const { high, low } = hashText(topic, 0);
		const key = Buffer.allocUnsafe(16);
		key.writeUInt16BE(this.#number, 0);
		key.writeUInt32BE(high, 2);
		key.writeUInt32BE(low, 6);
		key.writeUIntBE(sequence, 10, 6);
		return key;
	}

	/** The sequence that a key of this log ends in; undefined for a key of another log. */
	sequenceOf(key: Uint8Array): number | undefined {
		const bytes = Buffer.from(key.buffer, key.byteOffset, key.byteLength);
		return bytes.readUInt16BE(0) === this.#number ? bytes.readUIntBE(bytes.length - 6, 6) : undefined;
	}
}

/** Above every sequence. */
export const LAST_SEQUENCE = 2 ** 48 - 1;
