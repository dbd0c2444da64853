import type { Clock, IdSource } from "../clock/clock.ts";
import type { StateBackend } from "../state/state-backend.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { HubOptions } from "./hub-options.ts";

/** Opens the state that the options ask for. A backend is loaded only when it is chosen. Rejects with `StateOpenError`. */
export async function openState(
	options: HubOptions,
	clock: Clock,
	ids: IdSource,
	logger: Logger,
): Promise<StateBackend> {
	if (options.state === "memory") {
		const { openMemoryState } = await import("../state/memory/open-memory-state.ts");
		return openMemoryState({ clock, ids });
	}
	const { openEmbeddedState } = await import("../state/embedded/open-embedded-state.ts");
	return openEmbeddedState({ directory: options.dataDirectory, clock, ids, logger });
}
