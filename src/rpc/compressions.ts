import { promisify } from "node:util";
import { brotliCompress, brotliDecompress, constants, gunzip, gzip } from "node:zlib";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Compression } from "@connectrpc/connect/protocol";

type Bytes = Uint8Array<ArrayBuffer>;
const compressGzip = promisify<Uint8Array, object, Bytes>(gzip as never);
const decompressGzip = promisify<Uint8Array, object, Bytes>(gunzip as never);
const compressBrotli = promisify<Uint8Array, object, Bytes>(brotliCompress as never);
const decompressBrotli = promisify<Uint8Array, object, Bytes>(brotliDecompress as never);

/** Favours speed: a hub compresses on the thread pool while others wait for it. */
const GZIP = Object.freeze({ level: 1 });
const BROTLI = Object.freeze({ params: { [constants.BROTLI_PARAM_QUALITY]: 3 } });

/**
 * The compressions of the Connect lane, best known first. Decompression stops at the method's limit: no more is ever
 * held, however much a few bytes claim to become.
 */
export const COMPRESSIONS: readonly Compression[] = Object.freeze([
	{
		name: "gzip",
		compress: (bytes) => compressGzip(bytes, GZIP),
		decompress: (bytes, maxBytes) =>
			bounded(bytes, maxBytes, () => decompressGzip(bytes, { maxOutputLength: maxBytes })),
	},
	{
		name: "br",
		compress: (bytes) => compressBrotli(bytes, BROTLI),
		decompress: (bytes, maxBytes) =>
			bounded(bytes, maxBytes, () => decompressBrotli(bytes, { maxOutputLength: maxBytes })),
	},
] satisfies Compression[]);

async function bounded(bytes: Uint8Array, maxBytes: number, decompress: () => Promise<Bytes>): Promise<Bytes> {
	// An empty message may travel as no bytes at all, whatever the encoding.
	if (bytes.byteLength === 0) return new Uint8Array();
	try {
		return await decompress();
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE") {
			throw new ConnectError(`message is larger than ${maxBytes} bytes`, Code.ResourceExhausted);
		}
		throw new ConnectError("decompression failed", Code.InvalidArgument, undefined, undefined, error);
	}
}
