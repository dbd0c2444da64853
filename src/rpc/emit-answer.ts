import type { LogAppended } from "../state/log-store.ts";
import { varintSize } from "../wire/varint.ts";
import { WireWriter } from "../wire/wire-writer.ts";

/** An `EmitResponse` in wire form: building the message first takes several times as long as writing it. `epoch` is ASCII. */
export function emitAnswer(id: string, epoch: string, stored: LogAppended): Uint8Array {
	const { sequence, time, duplicate } = stored;
	const writer = new WireWriter(id.length * 3 + epoch.length * 3 + 128);
	writer.string(1, id);
	writer.header(2, 2 + epoch.length + 1 + varintSize(sequence));
	writer.string(1, epoch);
	writer.varint(2, sequence);
	writer.time(3, time);
	if (duplicate) writer.varint(4, true);
	return writer.finish();
}
