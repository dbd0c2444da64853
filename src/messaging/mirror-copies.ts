import type { MessageDraft } from "./message-draft.ts";
import type { MirrorCopy } from "./route-table.ts";
import type { Router } from "./router.ts";

/** A message that was accepted. */
export interface MirroredMessage {
	readonly draft: MessageDraft;
	readonly id: string;
	readonly source: string;
}

/** Makes the copies that routes ask for; one that its plugin may not have counts as lost. */
export function makeMirrors(
	router: Pick<Router, "mirror" | "counters">,
	{ draft, id, source }: MirroredMessage,
	mirrors: readonly MirrorCopy[],
	mayMirror: (recipient: string) => boolean,
): void {
	for (const { route, recipient } of mirrors) {
		if (mayMirror(recipient)) router.mirror(draft, id, source, recipient, route);
		else router.counters.mirrorLost++;
	}
}
