import type { Route } from "#gen/qirvo/hub/v1/routes_pb.js";

/**
 * A circle of plugins in which these routes could send a message, beginning and ending with the same one; undefined: there
 * is none. Judged by recipients alone, whatever the types and senders. A split that may leave a message where it is makes
 * no circle by that.
 */
export function findCircle(routes: readonly Route[]): readonly string[] | undefined {
	const targets = new Map<string, string[]>();
	for (const { match, action } of routes) {
		if (match?.address.case !== "recipient") continue;
		const from = match.address.value;
		const found = targets.get(from) ?? [];
		targets.set(from, found);
		if (action.case === "redirect") found.push(action.value);
		else if (action.case === "split") {
			found.push(...action.value.targets.map(({ pluginId }) => pluginId).filter((pluginId) => pluginId !== from));
		}
	}
	const done = new Set<string>();
	for (const start of targets.keys()) {
		const path: { readonly at: string; next: number }[] = [{ at: start, next: 0 }];
		const onPath = new Set([start]);
		while (path.length > 0) {
			const step = path.at(-1)!;
			const target = targets.get(step.at)?.[step.next++];
			if (target === undefined || done.has(step.at)) {
				done.add(step.at);
				onPath.delete(step.at);
				path.pop();
			} else if (onPath.has(target)) {
				const ids = path.map(({ at }) => at);
				return [...ids.slice(ids.indexOf(target)), target];
			} else {
				path.push({ at: target, next: 0 });
				onPath.add(target);
			}
		}
	}
	return undefined;
}
