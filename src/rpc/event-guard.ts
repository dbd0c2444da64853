import type { EventContent } from "../events/event-intake.ts";
import type { EventAction } from "../security/actions.ts";
import type { Caller } from "../security/caller.ts";

/** The part of the guard that events need. */
export interface EventGuard {
	check(caller: Caller, action: EventAction, content?: EventContent, requestId?: string): void;
	recheck(caller: Caller, action: EventAction): void;
}
