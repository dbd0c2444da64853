/** Bounds of the stores of a hub. */
export const STORE_LIMITS = Object.freeze({
	/** Stores of one owner. */
	storesPerOwner: 100,
	stores: 10_000,
	keyBytes: 512,
	/** Checks and writes of one unit. */
	unitOperations: 500,
	/** What `unitCost` may say of a unit. */
	unitCost: 960,
	/** Bytes of the entries as they were that the answer to one unit shows. */
	previousBytes: 2 * 1024 * 1024,
	/** Old versions that a store keeps. */
	storeVersions: 100_000,
	/** Entries that one page looks at to find those it is asked for. */
	scannedEntries: 5000,
	/** Bytes of a page of entries, about. */
	pageBytes: 1024 * 1024,
});
