import type { PendingOperation } from "./pending-operation.ts";

/** A way to the hub for operations on entries. It settles every one it is given, unless its caller settles it first. */
export interface OperationSink {
	push(operation: PendingOperation): void;
}
