/** A protobuf item in wire form, tag and length before it: a range of a chunk that others share. */
export class WireRange {
	readonly chunk: Uint8Array;
	readonly start: number;
	readonly end: number;

	constructor(chunk: Uint8Array, start: number, end: number) {
		this.chunk = chunk;
		this.start = start;
		this.end = end;
	}

	get byteLength(): number {
		return this.end - this.start;
	}

	get bytes(): Uint8Array {
		return this.chunk.subarray(this.start, this.end);
	}
}

/** `head` and the items behind it as one message. Items that stand one behind the other are copied at once. */
export function joinRanges(head: Uint8Array, ranges: readonly WireRange[]): Uint8Array {
	let length = head.byteLength;
	for (const range of ranges) length += range.byteLength;
	const bytes = new Uint8Array(length);
	bytes.set(head);
	let at = head.byteLength;
	for (let index = 0; index < ranges.length; ) {
		const { chunk, start } = ranges[index]!;
		let { end } = ranges[index++]!;
		for (let next = ranges[index]; next?.chunk === chunk && next.start === end; next = ranges[++index]) end = next.end;
		bytes.set(chunk.subarray(start, end), at);
		at += end - start;
	}
	return bytes;
}
