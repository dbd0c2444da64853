import { randomIds } from "../clock/system-clock.ts";
import type { InspectedBackup } from "../state/embedded/restore-state.ts";
import { checkStoredEntry, checkStoredRecord, renewStoredEntry } from "./stored-records.ts";

const VISITOR = { entry: checkStoredEntry, record: checkStoredRecord };

/** Reads all of a backup. Rejects with `BackupError` or `StateOpenError` where something is wrong with it. */
export async function verifyHubBackup(file: string): Promise<InspectedBackup> {
	const { inspectBackup } = await import("../state/embedded/restore-state.ts");
	return await inspectBackup(file, VISITOR);
}

/** Makes a backup the state of an empty folder, once all of it was read. Rejects likewise, and leaves nothing then. */
export async function restoreHub(file: string, directory: string): Promise<InspectedBackup> {
	const { restoreEmbeddedState } = await import("../state/embedded/restore-state.ts");
	return await restoreEmbeddedState({ file, directory, ids: randomIds, visitor: VISITOR, renew: renewStoredEntry });
}
