import type { BackupStoreRequest } from "#gen/qirvo/hub/v1/store_backup_pb.js";
import { BackupWriter } from "../stores/backup-lines.ts";
import type { OpenStore } from "../stores/open-store.ts";
import type { StoreSnapshot } from "../stores/store-snapshot.ts";
import { parseStoreName } from "../subjects/store-name.ts";
import type { Call } from "./call.ts";
import type { StoreAdmission } from "./store-admission.ts";
import { endWith, type StreamRegistry } from "./stream-ending.ts";

export interface BackupStreamDeps {
	readonly snapshots: { open(store: OpenStore): StoreSnapshot };
	readonly admission: StoreAdmission;
	readonly streams: StreamRegistry;
}

/** Bytes of lines in one frame, about; a longer line is a frame of its own. */
const FRAME_BYTES = 256 * 1024;

interface Lines {
	readonly lines: string[];
}

/** One `BackupStore` call. Reads on as its caller takes the lines. */
export async function* backupStore(
	{ snapshots, admission, streams }: BackupStreamDeps,
	request: BackupStoreRequest,
	call: Call,
): AsyncGenerator<Lines, void, undefined> {
	const name = parseStoreName(request.name, "name");
	const store = admission.admit(call, name, "read");
	const stop = new AbortController();
	// What is taken away later is the credential: a backup is of the store as it was when it began.
	using _registered = endWith(
		call,
		streams,
		() => {},
		(error) => stop.abort(error),
	);
	using snapshot = snapshots.open(store);
	const writer = new BackupWriter();
	const frame = new LineFrame();
	frame.add(writer.header(store.show()));
	for (let entries = await snapshot.next(); entries !== undefined; entries = await snapshot.next()) {
		for (const entry of entries) {
			frame.add(writer.entry(entry));
			if (frame.isFull) yield frame.take();
			stop.signal.throwIfAborted();
		}
	}
	frame.add(writer.end());
	yield frame.take();
}

class LineFrame {
	#lines: string[] = [];
	#bytes = 0;

	get isFull(): boolean {
		return this.#bytes >= FRAME_BYTES;
	}

	add(line: string): void {
		this.#lines.push(line);
		this.#bytes += Buffer.byteLength(line);
	}

	take(): Lines {
		const lines = this.#lines;
		this.#lines = [];
		this.#bytes = 0;
		return { lines };
	}
}
