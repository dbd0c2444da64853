import { createHash, type Hash } from "node:crypto";

/**
 * A backup of a hub's state, as a file:
 *
 *   16 bytes `qirvo-hub-backup`, u32 length and the description (JSON), the copy of the state, SHA-256 of all before it
 *
 * Little-endian. The digest at the end tells damage and an end that is missing; it proves nothing about who made the file.
 */
const MAGIC = Buffer.from("qirvo-hub-backup", "latin1");
const VERSION = 1;
const MAX_DESCRIPTION_BYTES = 64 * 1024;
const DIGEST_BYTES = 32;
const PREFIX_BYTES = MAGIC.byteLength + 4;

/** What a backup says of itself. */
export interface BackupDescription {
	/** Of the hub that it is of. */
	readonly hubVersion: string;
	/** The version of the form of the state. */
	readonly stateFormat: number;
	/** When it was taken, in milliseconds since the Unix epoch. */
	readonly time: number;
	/** Of the copy of the state. */
	readonly bytes: number;
}

/** Why a file is no backup that can be used. */
export class BackupError extends Error {
	override readonly name = "BackupError";
}

/** Makes the bytes of a backup around those of the copy. */
export class BackupEncoder {
	readonly #hash = createHash("sha256");
	#size = 0;

	/** What comes first. */
	head(description: BackupDescription): Uint8Array {
		const text = Buffer.from(JSON.stringify({ version: VERSION, ...description }));
		const length = Buffer.alloc(4);
		length.writeUInt32LE(text.byteLength);
		return this.piece(Buffer.concat([MAGIC, length, text]));
	}

	/** Some of the copy's bytes, as they are. */
	piece<T extends Uint8Array>(bytes: T): T {
		this.#hash.update(bytes);
		this.#size += bytes.byteLength;
		return bytes;
	}

	/** What comes last. */
	tail(): Uint8Array {
		return this.piece(this.#hash.copy().digest());
	}

	/** Of all bytes so far: SHA-256 and how many there are. */
	end(): { readonly size: number; readonly sha256: Uint8Array } {
		return { size: this.#size, sha256: this.#hash.digest() };
	}
}

/** Takes a backup apart: what is pushed into it comes out as the bytes of the copy. */
export class BackupDecoder {
	readonly #hash: Hash = createHash("sha256");
	#held: Buffer = Buffer.alloc(0);
	#description: BackupDescription | undefined;
	#left = 0;

	/** undefined until its bytes were pushed. */
	get description(): BackupDescription | undefined {
		return this.#description;
	}

	/** The bytes of the copy that are in the next bytes of the file. Throws `BackupError` where it is no backup. */
	push(bytes: Uint8Array): Uint8Array {
		let rest: Buffer = Buffer.concat([this.#held, bytes]);
		this.#held = Buffer.alloc(0);
		if (this.#description === undefined) {
			const head = this.#readHead(rest);
			if (head === undefined) {
				this.#held = rest;
				return Buffer.alloc(0);
			}
			this.#hash.update(rest.subarray(0, head));
			rest = rest.subarray(head);
		}
		const copy = rest.subarray(0, this.#left);
		this.#left -= copy.byteLength;
		this.#hash.update(copy);
		this.#held = Buffer.from(rest.subarray(copy.byteLength));
		if (this.#held.byteLength > DIGEST_BYTES) throw new BackupError("the backup goes on after its end");
		return copy;
	}

	/** To be called after the last byte. Throws `BackupError` where bytes are missing or are not those that were written. */
	finish(): BackupDescription {
		if (this.#description === undefined || this.#left > 0 || this.#held.byteLength < DIGEST_BYTES) {
			if (this.#description === undefined) throw new BackupError("the file is no backup of a hub");
			throw new BackupError("the end of the backup is missing");
		}
		if (!this.#hash.digest().equals(this.#held)) {
			throw new BackupError("the backup is damaged: its bytes do not have its digest");
		}
		return this.#description;
	}

	/** How long the head is; undefined: longer than what is there. */
	#readHead(bytes: Buffer): number | undefined {
		if (!MAGIC.subarray(0, bytes.byteLength).equals(bytes.subarray(0, MAGIC.byteLength))) {
			throw new BackupError("the file is no backup of a hub");
		}
		if (bytes.byteLength < PREFIX_BYTES) return undefined;
		const length = bytes.readUInt32LE(MAGIC.byteLength);
		if (length > MAX_DESCRIPTION_BYTES) throw new BackupError("the backup is damaged: its description is too long");
		if (bytes.byteLength < PREFIX_BYTES + length) return undefined;
		this.#description = parseDescription(bytes.toString("utf8", PREFIX_BYTES, PREFIX_BYTES + length));
		this.#left = this.#description.bytes;
		return PREFIX_BYTES + length;
	}
}

function parseDescription(text: string): BackupDescription {
	let parsed: unknown;
	try {
		parsed = JSON.parse(text);
	} catch (cause) {
		throw new BackupError("the backup is damaged: its description cannot be read", { cause });
	}
	const { version, hubVersion, stateFormat, time, bytes } = Object(parsed) as Record<string, unknown>;
	if (typeof version === "number" && version > VERSION) {
		throw new BackupError(`the backup is of version ${version}; this hub reads versions up to ${VERSION}`);
	}
	const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
	if (
		version !== VERSION ||
		typeof hubVersion !== "string" ||
		!isCount(stateFormat) ||
		!isCount(time) ||
		!isCount(bytes)
	) {
		throw new BackupError("the backup is damaged: its description is not complete");
	}
	return { hubVersion, stateFormat, time, bytes };
}
