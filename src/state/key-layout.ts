/**
 * Who owns which part of the durable keyspace, and the keys that two subsystems write or read. A key that only its owner
 * touches is made by its owner.
 *
 * | prefix | owner | holds |
 * |---|---|---|
 * | `plugin/` | plugins | registrations and instances |
 * | `policy/` | security | permissions, trust, disabled marks, credentials; its last revision is the policy epoch |
 * | `outbox/` | outbox | records on their way to a log |
 * | `idempotency/` | idempotency | first answers to request ids |
 * | `subscription/` | events | durable subscriptions, how far they are, and the events that were put back into them |
 * | `mailbox/` | messaging | durable messages, by recipient, and marks of ids lately used |
 * | `topic/` | messaging | subscriptions to topics, by plugin |
 * | `route/`, `route-set` | messaging | routes, and what every change of them touches |
 * | `dead-letter/` | dead-letters | what could not be delivered, by plugin |
 */
export const keys = Object.freeze({
	/** PluginRecord. */
	registration: (pluginId: string) => `plugin/registration/${pluginId}`,
	/** InstanceRecord. */
	instance: (pluginId: string, instanceId: string) => `plugin/instance/${pluginId}/${instanceId}`,
	/** PermissionsRecord. Set by security, deleted by plugins when the plugin is unregistered. */
	permissions: (pluginId: string) => `policy/permissions/${pluginId}`,
	/** TrustRecord. Set by security, deleted by plugins when the plugin is unregistered. */
	trust: (pluginId: string) => `policy/trust/${pluginId}`,
	/** Any value: the plugin is disabled. Written by plugins with the registration; read by security. */
	disabled: (pluginId: string) => `policy/disabled/${pluginId}`,
	/** CredentialRecord; `principal` is `plugin:<id>` or `operator:<id>`. */
	credential: (principal: string, credentialId: string) => `policy/credential/${principal}/${credentialId}`,
	/** SigningKeyRecord. */
	signingKey: "policy/signing-key",
	/** OutboxRecord for the event log. */
	outboxEvent: (id: string) => `outbox/event/${id}`,
	/** An audit record for the log of changes. Written, moved and deleted by security. */
	outboxAudit: (id: string) => `outbox/audit/${id}`,
	/** FirstAnswerRecord. */
	firstAnswer: (principal: string, method: string, requestId: string) =>
		`idempotency/${principal}/${method}/${requestId}`,
	/**
	 * MessageBlockRecord, with what follows it a SettledPlacesRecord (`.s`), a DeliveryRecord (`.d`) or a SettledIdsRecord (`.m`).
	 * `sequence` orders a mailbox's messages by their acceptance.
	 */
	mailboxMessage: (pluginId: string, sequence: number) =>
		`mailbox/${pluginId}/${sequence.toString(16).padStart(14, "0")}`,
	/** RouteRecord. */
	route: (name: string) => `route/${name}`,
	/** Empty. Written with every change of routes, so that of two changes at a time the second sees the first. */
	routeSet: "route-set",
	/** DeadLetterRecord. */
	deadLetter: (pluginId: string, id: string) => `dead-letter/${pluginId}/${id}`,
});

export const prefixes = Object.freeze({
	registrations: "plugin/registration/",
	instances: "plugin/instance/",
	policy: "policy/",
	outboxEvents: "outbox/event/",
	outboxAudit: "outbox/audit/",
	idempotency: "idempotency/",
	mailboxes: "mailbox/",
	routes: "route/",
	deadLetters: "dead-letter/",
	topics: "topic/",
});
