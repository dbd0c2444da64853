// Arguments: address of an etcd. Takes { kind: "set", from, count, window }, answers { ms }.
import { credentials, makeGenericClientConstructor } from "@grpc/grpc-js";
import { WireReader } from "../../src/wire/wire-reader.ts";
import { WireWriter } from "../../src/wire/wire-writer.ts";
import { answerRounds, keyOf } from "./entry-rounds.ts";
import { payloadBytes } from "./payload.ts";
import { pipelined } from "./pipelined.ts";

interface Put {
	readonly key: string;
	readonly value: Uint8Array;
}

/** `PutRequest` has the key as field 1 and the value as field 2; the header of `PutResponse`, field 1, the revision as field 3. */
const KV = makeGenericClientConstructor(
	{
		Put: {
			path: "/etcdserverpb.KV/Put",
			requestStream: false,
			responseStream: false,
			requestSerialize({ key, value }: Put) {
				const request = new WireWriter(256);
				request.string(1, key);
				request.bytes(2, value);
				return Buffer.from(request.finish());
			},
			requestDeserialize: () => undefined,
			responseSerialize: () => Buffer.alloc(0),
			responseDeserialize: revisionOf,
		},
	},
	"KV",
);
const client = new KV(process.argv[2]!, credentials.createInsecure());

function revisionOf(response: Uint8Array): number {
	const reader = new WireReader(response);
	for (let number = reader.next(); number !== 0; number = reader.next()) {
		if (number !== 1) {
			reader.skip();
			continue;
		}
		const header = reader.nested();
		for (let field = header.next(); field !== 0; field = header.next()) {
			if (field === 3) return Number(header.uint64());
			header.skip();
		}
	}
	throw new Error("a put was answered without a revision");
}

function put(number: number): Promise<number> {
	return new Promise((resolve, reject) => {
		client.Put!({ key: keyOf(number), value: payloadBytes(number) }, (error: Error | null, revision: number) =>
			error ? reject(error) : resolve(revision),
		);
	});
}

await answerRounds((command) => pipelined(command, put));
