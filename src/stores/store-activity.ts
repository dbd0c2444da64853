/** What was done with a store since the hub started. Plain numbers, because some grow with every operation. */
export class StoreActivity {
	/** Entries that were asked for by key. */
	gets = 0;
	/** Of those, the ones that were not there. */
	misses = 0;
	/** Pages of entries and of versions. */
	pages = 0;
	/** Values written. */
	sets = 0;
	/** Entries deleted by plugins. */
	deletes = 0;
	/** Entries that ended because their time was over. */
	expired = 0;
	/** Entries that ended with a lease. */
	leaseEnded = 0;
	/** Units refused for an expectation. */
	mismatches = 0;
	/** Units refused by a validator. */
	invalid = 0;
	/** Units refused by a quota. */
	overQuota = 0;
}
