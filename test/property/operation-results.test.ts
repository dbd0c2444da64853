import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { type PipelineResponse, PipelineResponseSchema } from "#gen/qirvo/hub/v1/entries_pb.js";
import {
	settleResults,
	type TakeOperation,
	type WireResults,
	wirePipeline,
} from "../../src/client/operation-frames.ts";

const id = fc.bigInt({ min: 0n, max: 2n ** 53n - 1n });
const text = fc.string({ maxLength: 10 });
const write = fc.record({
	revision: id,
	changed: fc.boolean(),
	number: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
});
const result = fc.option(
	fc.oneof(
		fc.record({ key: text, revision: id }).map((value) => ({ case: "entry" as const, value })),
		write.map((value) => ({ case: "write" as const, value })),
		fc.record({ transactionId: text }).map((value) => ({ case: "transaction" as const, value })),
		fc.record({ message: text }).map((value) => ({ case: "error" as const, value })),
	),
	{ nil: undefined },
);

/** What the operations of a frame are told, in its order. */
function told(frame: PipelineResponse | WireResults): unknown[] {
	const calls: unknown[] = [];
	settleResults(frame, (number) => {
		const note = (...what: unknown[]) => void calls.push([number, ...what]);
		const operation: Partial<ReturnType<TakeOperation>> = {
			gotEntry: (entry) => note("entry", entry?.key, entry?.revision),
			wrote: ({ revision, changed, number }) => note("write", revision, changed, number),
			transacted: ({ transactionId }) => note("transaction", transactionId),
			refused: (error) => note("refused", String(error)),
			reject: (error) => note("reject", String(error)),
		};
		return operation as ReturnType<TakeOperation>;
	});
	return calls;
}

test("a frame of results of a pipeline says what protobuf makes of it, also where a result says nothing", () => {
	fc.assert(
		fc.property(fc.array(fc.record({ id, result }), { maxLength: 12 }), (results) => {
			const value = { results: results.map(({ id, result = { case: undefined } }) => ({ id, result })) };
			const bytes = toBinary(
				PipelineResponseSchema,
				create(PipelineResponseSchema, { frame: { case: "results", value } }),
			);
			const calls = told(wirePipeline.decode(bytes));
			expect(calls).toEqual(told(fromBinary(PipelineResponseSchema, bytes)));
			expect(calls).toHaveLength(results.length);
		}),
		{ numRuns: 500 },
	);
});
