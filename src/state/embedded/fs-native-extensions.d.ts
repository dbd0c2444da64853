declare module "fs-native-extensions" {
	/** Takes an exclusive lock of the file's open description without waiting. False where another holds it. */
	export function tryLock(fd: number): boolean;
}
