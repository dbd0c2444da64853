import { Code } from "@connectrpc/connect";
import { HubClientError } from "./errors.ts";

/** A Standard Schema (https://standardschema.dev), as zod, valibot, arktype and others make them. */
export interface StandardSchema<T> {
	readonly "~standard": {
		readonly version: 1;
		readonly validate: (value: unknown) => StandardResult<T> | Promise<StandardResult<T>>;
	};
}

type StandardResult<T> =
	| { readonly value: T; readonly issues?: undefined }
	| { readonly issues: readonly StandardIssue[] };

interface StandardIssue {
	readonly message: string;
	readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

/**
 * What the values of a store are like: a Standard Schema, or anything that gives a value back or throws. It judges what is
 * written as well as what is read, so it must take what it gives.
 */
export type StoreSchema<T> = StandardSchema<T> | { parse(value: unknown): T };

/** What a schema made of a value. */
export type Checked<T> = { readonly value: T } | { readonly error: HubClientError };

/** Asks a schema. A promise only where the schema gives one. */
export function checkValue<T>(schema: StoreSchema<T>, key: string, value: unknown): Checked<T> | Promise<Checked<T>> {
	try {
		if (!("~standard" in schema)) return { value: schema.parse(value) };
		const result = schema["~standard"].validate(value);
		if (!(result instanceof Promise)) return outcome(key, result);
		return result.then((settled) => outcome(key, settled)).catch((cause: unknown) => refused(key, [], cause));
	} catch (cause) {
		return refused(key, [], cause);
	}
}

function outcome<T>(key: string, result: StandardResult<T>): Checked<T> {
	return result.issues === undefined ? { value: result.value } : refused(key, result.issues, undefined);
}

function refused(key: string, issues: readonly StandardIssue[], cause: unknown): { readonly error: HubClientError } {
	const violations = issues.map(({ path, message }) => ({ field: pathText(path), description: message }));
	const [first] = violations;
	const why = first?.description ?? (cause instanceof Error ? cause.message : String(cause));
	const error = new HubClientError("VALIDATION_FAILED", `the value of ${key} does not follow the schema: ${why}`, {
		code: Code.FailedPrecondition,
		metadata: { validator: "client", key, ...(first && { path: first.field }) },
		violations,
		cause,
	});
	return { error };
}

/** A JSON pointer. */
function pathText(path: StandardIssue["path"]): string {
	const keys = (path ?? []).map((step) => String(typeof step === "object" ? step.key : step));
	return keys.map((key) => `/${key.replaceAll("~", "~0").replaceAll("/", "~1")}`).join("");
}
