import type { MessageInitShape } from "@bufbuild/protobuf";
import type { BackupStateResponseSchema } from "#gen/qirvo/hub/v1/hub_service_pb.js";
import type { Clock, IdSource } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import { storageRefusal } from "../idempotency/storage-refusal.ts";
import type { AuditEntry } from "../security/audit-entry.ts";
import type { AuditedChange } from "../security/audit-log.ts";
import { principalOf } from "../security/caller.ts";
import { BackupEncoder } from "../state/backup-file.ts";
import type { StateBackend, StateCopy } from "../state/state-backend.ts";
import type { Call } from "./call.ts";
import { endWith, type StreamRegistry } from "./stream-ending.ts";

export interface StateBackupsOptions {
	readonly state: Pick<StateBackend, "copy" | "kv">;
	readonly audit: { change(entry: AuditEntry): AuditedChange };
	readonly streams: StreamRegistry;
	readonly clock: Clock;
	readonly ids: IdSource;
	readonly hubVersion: string;
}

type Frame = MessageInitShape<typeof BackupStateResponseSchema>;

/** Takes backups of the whole state, one at a time. */
export class StateBackups {
	readonly #options: StateBackupsOptions;
	#isTaking = false;

	constructor(options: StateBackupsOptions) {
		this.#options = options;
	}

	/**
	 * One `BackupState` call. The copy is made first, and read as the caller takes its chunks. It goes as soon as the call ends, or
	 * once it is made where the call ends before; until then no other is taken.
	 */
	async *stream(call: Call): AsyncGenerator<Frame, void, undefined> {
		if (this.#isTaking) throw new HubError("LIMIT_EXCEEDED", "another backup is being taken", { retryAfterMs: 10_000 });
		const stop = new AbortController();
		let copy: StateCopy | undefined;
		let isMade = false;
		// A generator that waits for its caller to take a frame is not told when the caller is gone.
		const release = async () => {
			if (!isMade) return;
			isMade = false;
			await copy?.[Symbol.asyncDispose]();
			this.#isTaking = false;
		};
		using _registered = endWith(
			call,
			this.#options.streams,
			() => {},
			(error) => {
				stop.abort(error);
				void release();
			},
		);
		this.#isTaking = true;
		try {
			try {
				copy = await this.#copy(call);
			} finally {
				isMade = true;
			}
			stop.signal.throwIfAborted();
			yield* this.#frames(copy, stop.signal);
		} catch (error) {
			throw stop.signal.aborted ? stop.signal.reason : storageRefusal(error);
		} finally {
			await release();
		}
	}

	async #copy(call: Call): Promise<StateCopy> {
		await this.#record(call);
		const copy = await this.#options.state.copy();
		if (copy === undefined) {
			throw new HubError("FEATURE_NOT_AVAILABLE", "this hub keeps nothing that outlives its process", {
				precondition: { type: "FEATURE", subject: "state_backup", description: "the state is in memory" },
			});
		}
		return copy;
	}

	/** Before the copy is made: who takes one away is known by the copy itself. */
	async #record(call: Call): Promise<void> {
		const { audit, state, ids } = this.#options;
		const actor = principalOf(call.caller);
		const change = audit.change({ event: "state_backed_up", actor, target: "hub", requestId: call.requestId });
		await state.kv.commit({ id: ids.next(), writes: [change.write] });
		await change.settle();
	}

	async *#frames(copy: StateCopy, signal: AbortSignal): AsyncGenerator<Frame, void, undefined> {
		const { clock, hubVersion } = this.#options;
		const encoder = new BackupEncoder();
		const chunk = (value: Uint8Array): Frame => ({ frame: { case: "chunk", value: value as Uint8Array<ArrayBuffer> } });
		const { bytes, format: stateFormat } = copy;
		yield chunk(encoder.head({ hubVersion, stateFormat, time: clock.now(), bytes }));
		for await (const piece of copy.read()) {
			signal.throwIfAborted();
			yield chunk(encoder.piece(piece));
		}
		yield chunk(encoder.tail());
		const { size, sha256 } = encoder.end();
		yield { frame: { case: "end", value: { size: BigInt(size), sha256: sha256 as Uint8Array<ArrayBuffer> } } };
	}
}
