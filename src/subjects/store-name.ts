import { HubError } from "../hub-error.ts";

const STORE_NAME = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$/;

/** Whether the text is the name of a store: 1 to 128 of `[A-Za-z0-9._:-]`, starting with a letter or digit. */
export function isStoreName(text: string): boolean {
	return STORE_NAME.test(text);
}

/** Refuses with INVALID_FIELD what is no name of a store. */
export function parseStoreName(text: string, field: string): string {
	if (STORE_NAME.test(text)) return text;
	if (text === "") throw HubError.field(field, "is required");
	throw HubError.field(
		field,
		'is no store name: 1 to 128 of A-Z, a-z, 0-9, ".", "_", ":" and "-", starting with a letter or digit',
	);
}
