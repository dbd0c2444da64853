import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type EntryAnswerRecord, EntryAnswerRecordSchema } from "#gen/qirvo/hub/storage/v1/records_pb.js";
import type { AnswerCodec, Settled } from "../idempotency/first-answers.ts";
import type { Written } from "./entry-write.ts";
import type { Outcome } from "./queued-unit.ts";

/** How the first answer to a write of entries is kept. */
export const ENTRY_ANSWERS: AnswerCodec<EntryAnswerRecord> = {
	encode: (answer) => toBinary(EntryAnswerRecordSchema, answer),
	decode: (bytes) => fromBinary(EntryAnswerRecordSchema, bytes),
};

/** `answerIndex`: the place of the answer among the round's writes. */
export function answerOf(outcomes: readonly Outcome[], answerIndex: number, transactionId: string): EntryAnswerRecord {
	const writes = outcomes.map(({ revision, number }) => ({
		revisionOffset: BigInt(revision < 0 ? 0 : revision - answerIndex),
		...(number !== undefined && { number: BigInt(number) }),
	}));
	return create(EntryAnswerRecordSchema, { writes, transactionId });
}

/** The first answer, given again. */
export function repeated({ answer, firstRevision }: Settled<EntryAnswerRecord>): Written {
	const results = answer.writes.map(({ revisionOffset, number }) => ({
		revision: revisionOffset === 0n ? 0 : firstRevision - 1 + Number(revisionOffset),
		changed: revisionOffset !== 0n,
		previous: undefined,
		number: number === undefined ? undefined : Number(number),
	}));
	return { results, duplicate: true, transactionId: answer.transactionId };
}
