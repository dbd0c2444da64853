import { closeSync, mkdirSync, openSync } from "node:fs";
import { join } from "node:path";
import { StateOpenError } from "../state-backend.ts";

/**
 * Creates the folder (0700) and takes its lock, which the system releases when the process ends, however it ends. Two
 * processes with the data open would both write, each trusting what it holds in memory.
 */
export async function lockFolder(directory: string): Promise<Disposable> {
	const { tryLock } = await import("fs-native-extensions");
	let fd: number;
	try {
		mkdirSync(directory, { recursive: true, mode: 0o700 });
		fd = openSync(join(directory, "hub.lock"), "a+", 0o600);
	} catch (cause) {
		throw new StateOpenError("unusable", `${directory} cannot be used as a state folder`, cause);
	}
	let locked = false;
	try {
		locked = tryLock(fd);
	} catch (cause) {
		closeSync(fd);
		throw new StateOpenError("unusable", `${directory} cannot be locked`, cause);
	}
	if (!locked) {
		closeSync(fd);
		throw new StateOpenError("in-use", `${directory} is in use by another hub`);
	}
	let held = true;
	return {
		[Symbol.dispose]() {
			if (held) closeSync(fd);
			held = false;
		},
	};
}
