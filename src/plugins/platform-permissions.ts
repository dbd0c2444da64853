/**
 * What a plugin of the platform may ask of it, by its canonical name. Declared in a manifest these are requests: the hub
 * shows them to an operator and grants nothing.
 */
export const PLATFORM_PERMISSIONS = Object.freeze([
	"network-access",
	"storage-read",
	"storage-write",
	"filesystem-access",
	"notifications",
	"clipboard-read",
	"clipboard-write",
	"geolocation",
	"camera",
	"microphone",
	"calendar",
	"contacts",
] as const);

export type PlatformPermission = (typeof PLATFORM_PERMISSIONS)[number];

const OTHER_SPELLINGS: readonly (readonly [string, PlatformPermission])[] = [
	["network", "network-access"],
	["storage", "storage-read"],
	["filesystem", "filesystem-access"],
	["location", "geolocation"],
	["network.request", "network-access"],
	["storage.read", "storage-read"],
	["storage.write", "storage-write"],
	["notifications.show", "notifications"],
	["clipboard.read", "clipboard-read"],
	["clipboard.write", "clipboard-write"],
	["geolocation.read", "geolocation"],
	["camera.access", "camera"],
	["microphone.access", "microphone"],
];

const BY_SPELLING: ReadonlyMap<string, PlatformPermission> = new Map([
	...PLATFORM_PERMISSIONS.map((permission) => [permission, permission] as const),
	...OTHER_SPELLINGS,
]);

/** The canonical name of a permission in any spelling manifests use; undefined where the spelling is not known. */
export function platformPermission(spelling: string): PlatformPermission | undefined {
	return BY_SPELLING.get(spelling);
}
