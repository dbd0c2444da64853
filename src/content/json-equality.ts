/**
 * Whether two parsed JSON values are equal: objects whatever the order of their members, arrays in order, numbers by value.
 * Only own members count, so no name among them is special. Stops at the first difference. Recurses as deep as the values nest.
 */
export function equalJson(left: unknown, right: unknown): boolean {
	if (left === right) return true;
	if (left === null || right === null || typeof left !== "object" || typeof right !== "object") return false;
	if (Array.isArray(left) || Array.isArray(right)) {
		if (!Array.isArray(left) || !Array.isArray(right) || left.length !== right.length) return false;
		return left.every((item, at) => equalJson(item, right[at]));
	}
	const names = Object.keys(left);
	if (names.length !== Object.keys(right).length) return false;
	const [some, others] = [left, right] as [Record<string, unknown>, Record<string, unknown>];
	return names.every((name) => Object.hasOwn(others, name) && equalJson(some[name], others[name]));
}

/** A text that equal JSON values share and others do not, for use as a key. `visit` is told of each value inside. */
export function jsonIdentity(value: unknown, visit?: (value: unknown) => void): string {
	visit?.(value);
	if (value === null || typeof value !== "object") return value === 0 ? "0" : JSON.stringify(value);
	if (Array.isArray(value)) return `[${value.map((item) => jsonIdentity(item, visit)).join()}]`;
	const members = Object.entries(value).map(
		([name, member]) => `${JSON.stringify(name)}:${jsonIdentity(member, visit)}`,
	);
	return `{${members.sort().join()}}`;
}
