import { createPrivateKey, createPublicKey, generateKeyPair, type KeyObject } from "node:crypto";
import { promisify } from "node:util";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { SigningKeyRecordSchema } from "#gen/qirvo/hub/storage/v1/records_pb.js";
import type { IdSource } from "../clock/clock.ts";
import { keys } from "../state/key-layout.ts";
import type { KvStore } from "../state/kv-store.ts";

/** The Ed25519 key that tokens are signed with. */
export interface SigningKey {
	readonly id: string;
	readonly privateKey: KeyObject;
	readonly publicKey: KeyObject;
}

/**
 * The key of this state, made where there is none yet. Hubs that start at once on one state agree on one key. Rejects
 * with `StorageError`.
 */
export async function loadSigningKey(kv: KvStore, ids: IdSource): Promise<SigningKey> {
	const stored = readKey(kv);
	if (stored !== undefined) return stored;
	const pair = await promisify(generateKeyPair)("ed25519");
	const record = create(SigningKeyRecordSchema, {
		keyId: ids.next(),
		privateKey: pair.privateKey.export({ type: "pkcs8", format: "der" }),
	});
	const made = await kv.commit({
		id: ids.next(),
		checks: [{ key: keys.signingKey, revision: 0 }],
		writes: [{ key: keys.signingKey, value: toBinary(SigningKeyRecordSchema, record) }],
	});
	if (made.ok) return { id: record.keyId, ...pair };
	await kv.barrier();
	const theirs = readKey(kv);
	if (theirs === undefined) throw new Error("the signing key was deleted while it was being read");
	return theirs;
}

function readKey(kv: KvStore): SigningKey | undefined {
	const entry = kv.get(keys.signingKey);
	if (entry === undefined) return undefined;
	const record = fromBinary(SigningKeyRecordSchema, entry.value);
	const privateKey = createPrivateKey({ key: Buffer.from(record.privateKey), format: "der", type: "pkcs8" });
	return { id: record.keyId, privateKey, publicKey: createPublicKey(privateKey) };
}
