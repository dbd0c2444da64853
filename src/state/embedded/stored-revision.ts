import type { ByteDatabase } from "./environment.ts";

const REVISION_KEY = Buffer.from("kv/revision");

/** The revision of the keyspace; 0: nothing was written yet. */
export function storedRevision(meta: ByteDatabase): number {
	return meta.getBinary(REVISION_KEY)?.readDoubleLE(0) ?? 0;
}

/** In the transaction. */
export function storeRevision(meta: ByteDatabase, revision: number): void {
	const stored = Buffer.allocUnsafe(8);
	stored.writeDoubleLE(revision);
	meta.put(REVISION_KEY, stored);
}
