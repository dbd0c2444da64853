// Groups are stepped over as decoders do it, whatever the number of their field is.

import fc from "fast-check";
import { expect, test } from "vitest";
import { writeVarint } from "../../src/wire/varint.ts";
import { WireReader } from "../../src/wire/wire-reader.ts";

const GROUP_START = 3;
const GROUP_END = 4;

const fieldNumber = fc.oneof(fc.integer({ min: 1, max: 15 }), fc.integer({ min: 16, max: 536_870_911 }));

function tag(field: number, wireType: number): Buffer {
	const bytes = Buffer.alloc(5);
	return bytes.subarray(0, writeVarint(bytes, 0, field * 8 + wireType));
}

function read(bytes: Buffer): number[] {
	const reader = new WireReader(bytes);
	const fields: number[] = [];
	for (let field = reader.next(); field !== 0; field = reader.next()) {
		fields.push(field);
		reader.skip();
	}
	return fields;
}

test("a group is stepped over, behind others, with others in it", () => {
	fc.assert(
		fc.property(fieldNumber, fieldNumber, fieldNumber, (before, outer, inner) => {
			const group = (field: number, body: Buffer) =>
				Buffer.concat([tag(field, GROUP_START), body, tag(field, GROUP_END)]);
			const varint = Buffer.concat([tag(before, 0), Buffer.from([1])]);
			const bytes = Buffer.concat([varint, group(outer, group(inner, varint)), varint]);
			expect(read(bytes)).toEqual([before, outer, before]);
		}),
	);
});

test("a group that ends as another is refused", () => {
	fc.assert(
		fc.property(fieldNumber, fieldNumber, (before, field) => {
			fc.pre(before !== field);
			const varint = Buffer.concat([tag(before, 0), Buffer.from([1])]);
			const bytes = Buffer.concat([varint, tag(field, GROUP_START), tag(before, GROUP_END)]);
			expect(() => read(bytes)).toThrow(expect.objectContaining({ reason: "MALFORMED_REQUEST" }));
		}),
	);
});
