import type { Clock, IdSource } from "../clock/clock.ts";
import { FirstAnswers } from "../idempotency/first-answers.ts";
import type { StateBackend } from "../state/state-backend.ts";
import type { InstanceLeases } from "../stores/instance-leases.ts";
import { Stores } from "../stores/stores.ts";
import { type EntryFunction, ValidatorCompiler } from "../stores/validator-compiler.ts";
import type { Owner } from "./owner.ts";

/** Opens the stores on the state. `owner` ends them. */
export async function openStores(parts: {
	readonly state: StateBackend;
	readonly clock: Clock;
	readonly ids: IdSource;
	readonly answers: FirstAnswers;
	readonly leases: InstanceLeases;
	/** The embedder's validators by name. */
	readonly validators: Readonly<Record<string, EntryFunction>>;
	readonly onFault: (what: string, error: unknown) => void;
	readonly owner: Owner;
}): Promise<Stores> {
	const { state, clock, ids, validators, owner } = parts;
	const volatileAnswers = owner.use(new FirstAnswers({ kv: state.volatileKv, clock, ids }));
	await volatileAnswers.start();
	const { compile } = new ValidatorCompiler(new Map(Object.entries(validators)));
	const stores = owner.use(new Stores({ ...parts, volatileAnswers, compile }));
	await stores.start();
	return stores;
}
