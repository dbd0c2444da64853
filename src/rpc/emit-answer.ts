import { varintSize, writeVarint } from "../events/wire.ts";
import type { LogAppended } from "../state/log-store.ts";

/** An `EmitResponse` in wire form: building the message first takes several times as long as writing it. */
export function emitAnswer(id: string, epoch: string, stored: LogAppended): Uint8Array {
	const { sequence, time, duplicate } = stored;
	const idBytes = Buffer.byteLength(id);
	const position = 2 + epoch.length + 1 + varintSize(sequence);
	const seconds = Math.floor(time / 1000);
	const nanos = (time - seconds * 1000) * 1_000_000;
	const timeBytes = 1 + varintSize(seconds) + 1 + varintSize(nanos);
	const answer = Buffer.allocUnsafe(1 + varintSize(idBytes) + idBytes + 2 + position + 2 + timeBytes + 2);
	let at = 0;
	answer[at++] = 0x0a;
	at = writeVarint(answer, at, idBytes);
	at += answer.write(id, at);
	answer[at++] = 0x12;
	answer[at++] = position;
	answer[at++] = 0x0a;
	answer[at++] = epoch.length;
	at += answer.write(epoch, at, "latin1");
	answer[at++] = 0x10;
	at = writeVarint(answer, at, sequence);
	answer[at++] = 0x1a;
	answer[at++] = timeBytes;
	answer[at++] = 0x08;
	at = writeVarint(answer, at, seconds);
	answer[at++] = 0x10;
	at = writeVarint(answer, at, nanos);
	if (!duplicate) return answer.subarray(0, at);
	answer[at++] = 0x20;
	answer[at++] = 0x01;
	return answer.subarray(0, at);
}
