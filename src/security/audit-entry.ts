/** What happened, in the words that audit records are searched by. */
type AuditEvent =
	| "message_denied"
	| "event_denied"
	| "data_access_denied"
	| "call_denied"
	| "authentication_failed"
	| "stream_revoked"
	| "denials_summarized"
	| "credential_issued"
	| "credential_revoked"
	| "permissions_updated"
	| "trust_level_changed"
	| "route_put"
	| "route_deleted"
	| "store_created"
	| "store_updated"
	| "store_deleted"
	| "store_transferred"
	| "store_restored"
	| "plugin_enabled"
	| "plugin_disabled"
	| "plugin_unregistered"
	| "state_backed_up";

/** A decision that an operator may want to look up later. */
export interface AuditEntry {
	readonly event: AuditEvent;
	/** The principal that acted: `plugin:<id>`, `operator:<id>`, `anonymous`, or `hub`. */
	readonly actor: string;
	/** What it acted on, such as `plugin:<id>`, `event:<type>` or `credential:<id>`. */
	readonly target: string;
	/** A word such as `no_send_permission`, or what an operator gave as the reason. */
	readonly reason?: string;
	/** For people. Never a secret. Strings are cut at 1,024 characters. */
	readonly details?: Readonly<Record<string, string>>;
	/** The request id of the call. */
	readonly requestId?: string;
}

/** Takes records of denials. */
export interface AuditRecorder {
	/** Never blocks and never throws: a record that finds no room is dropped and counted. */
	record(entry: AuditEntry): void;
}
