/** One operation on a register, and the moments between which it took effect. Written values differ, but for `undefined`. */
export interface RegisterOperation {
	/** A swap writes `value` where `before` was there. */
	readonly kind: "read" | "write" | "swap";
	readonly before?: number | undefined;
	readonly value: number | undefined;
	readonly from: number;
	readonly to: number;
}

/**
 * Whether there is an order of the operations in which each takes effect between its call and its answer, and each read shows
 * what was written last; the register is `undefined` at first. (The search of Wing and Gong, remembering what it has tried.)
 */
export function isLinearizable(operations: readonly RegisterOperation[]): boolean {
	const sorted = operations.toSorted((a, b) => a.from - b.from);
	const tried = new Set<string>();
	const done = new Uint8Array(sorted.length);

	const search = (first: number, value: number | undefined, left: number): boolean => {
		if (left === 0) return true;
		let at = first;
		while (done[at] === 1) at++;
		// What is done is all before `at`, and the few behind it that overlap with it.
		const state = `${at} ${value} ${behind(at)}`;
		if (tried.has(state)) return false;
		tried.add(state);
		// Only what was called before the first answer of those that are left may be next.
		let firstAnswer = Number.POSITIVE_INFINITY;
		for (let index = at; index < sorted.length && sorted[index]!.from <= firstAnswer; index++) {
			if (done[index] === 0) firstAnswer = Math.min(firstAnswer, sorted[index]!.to);
		}
		for (let index = at; index < sorted.length && sorted[index]!.from <= firstAnswer; index++) {
			const operation = sorted[index]!;
			if (done[index] === 1 || !fits(operation, value)) continue;
			done[index] = 1;
			if (search(at, operation.kind === "read" ? value : operation.value, left - 1)) return true;
			done[index] = 0;
		}
		return false;
	};
	const behind = (at: number): string => {
		const indexes: number[] = [];
		for (let index = at + 1; index < sorted.length; index++) if (done[index] === 1) indexes.push(index - at);
		return indexes.join();
	};
	return search(0, undefined, sorted.length);
}

function fits(operation: RegisterOperation, value: number | undefined): boolean {
	if (operation.kind === "write") return true;
	return operation.kind === "read" ? operation.value === value : operation.before === value;
}
