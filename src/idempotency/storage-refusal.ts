import { HubError } from "../hub-error.ts";
import { type KvCommit, type KvCommitResult, type KvStore, StorageError } from "../state/kv-store.ts";

/** Commits, and asks once more with the same commit id where the outcome is unknown: that settles it (KV-4). */
export async function repeatUnknown(kv: KvStore, commit: KvCommit): Promise<KvCommitResult> {
	try {
		return await kv.commit(commit);
	} catch (error) {
		if (!(error instanceof StorageError) || error.outcome !== "unknown") throw error;
		return await kv.commit(commit);
	}
}

/** A storage fault as its caller is told of it; anything else as it is. */
export function storageRefusal(error: unknown): unknown {
	if (!(error instanceof StorageError)) return error;
	if (error.kind === "full") return new HubError("STORAGE_FULL", "the storage is full", { cause: error });
	return new HubError("STORAGE_UNAVAILABLE", "the storage is not available", { retryAfterMs: 1000, cause: error });
}
