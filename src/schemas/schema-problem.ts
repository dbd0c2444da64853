/** A reason to refuse a schema, and where in it that shows (JSON Pointer). */
export class SchemaProblem extends Error {
	override readonly name = "SchemaProblem";
	readonly pointer: string;

	constructor(pointer: string, problem: string) {
		super(problem);
		this.pointer = pointer;
	}
}

/** `pointer` with one more token. */
export function pointerTo(pointer: string, token: string | number): string {
	return `${pointer}/${String(token).replaceAll("~", "~0").replaceAll("/", "~1")}`;
}

/** A text of an author, shortened for an error. */
export function shortened(text: string, characters = 64): string {
	return text.length > characters ? `${text.slice(0, characters)}...` : text;
}
