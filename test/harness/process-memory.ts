import { readFileSync } from "node:fs";

/** Bytes of a process that are resident and belong to it alone: mapped files are the system's to take back. Linux only. */
export function residentBytes(pid: number): number {
	const kilobytes = /^RssAnon:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
	if (kilobytes === undefined) throw new Error(`process ${pid} says nothing of its memory`);
	return Number(kilobytes) * 1024;
}
