import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openEmbeddedState } from "../../src/state/embedded/open-embedded-state.ts";
import { openMemoryState } from "../../src/state/memory/open-memory-state.ts";
import type { StateBackend } from "../../src/state/state-backend.ts";
import { FakeClock, SequentialIds } from "./fake-clock.ts";

/** A backend on a store of its own, with the clock that it goes by. */
export interface OpenedState extends AsyncDisposable {
	readonly state: StateBackend;
	readonly clock: FakeClock;
	/** Closes the state and opens it again on the same data. Absent where nothing outlives the state. */
	reopen?(): Promise<StateBackend>;
}

export interface BackendUnderTest {
	readonly name: StateBackend["name"];
	open(): Promise<OpenedState>;
}

export const backends: readonly BackendUnderTest[] = [
	{ name: "memory", open: openMemory },
	{ name: "embedded", open: openEmbedded },
];

/** A fresh folder, removed with everything in it on disposal. */
export function temporaryFolder(): Disposable & { readonly path: string } {
	const path = mkdtempSync(join(tmpdir(), "hub-state-"));
	return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

async function openMemory(): Promise<OpenedState> {
	const clock = new FakeClock();
	const state = openMemoryState({ clock, ids: new SequentialIds() });
	return { state, clock, [Symbol.asyncDispose]: () => state[Symbol.asyncDispose]() };
}

async function openEmbedded(): Promise<OpenedState> {
	const folder = temporaryFolder();
	const clock = new FakeClock();
	const ids = new SequentialIds();
	const open = () => openEmbeddedState({ directory: join(folder.path, "state"), clock, ids });
	let state = await open();
	return {
		get state() {
			return state;
		},
		clock,
		async reopen() {
			await state[Symbol.asyncDispose]();
			state = await open();
			return state;
		},
		async [Symbol.asyncDispose]() {
			await state[Symbol.asyncDispose]();
			folder[Symbol.dispose]();
		},
	};
}
