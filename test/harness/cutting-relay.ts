import net from "node:net";

/** A TCP relay to a hub, whose connections a test can cut or stop. */
export interface CuttingRelay extends AsyncDisposable {
	readonly url: string;
	/** Cuts every connection, and admits no other until `work` is done. */
	cut(work: () => Promise<void>): Promise<void>;
	/** Reads nothing from either side any more, until it is called with false. */
	freeze(isFrozen: boolean): void;
}

export async function startCuttingRelay(hubUrl: string): Promise<CuttingRelay> {
	const port = Number(new URL(hubUrl).port);
	const sockets = new Set<net.Socket>();
	const pairs = new Set<readonly [near: net.Socket, far: net.Socket]>();
	let isCut = false;
	const keep = (socket: net.Socket) => {
		sockets.add(socket);
		socket.on("error", () => {});
		socket.on("close", () => sockets.delete(socket));
	};
	const cutAll = () => {
		for (const socket of sockets) socket.destroy();
	};
	const server = net.createServer((near) => {
		keep(near);
		if (isCut) {
			near.destroy();
			return;
		}
		const far = net.connect(port, "127.0.0.1");
		keep(far);
		near.pipe(far).pipe(near);
		const pair = [near, far] as const;
		pairs.add(pair);
		near.on("close", () => {
			pairs.delete(pair);
			far.destroy();
		});
		far.on("close", () => near.destroy());
	});
	await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
	return {
		url: `http://127.0.0.1:${(server.address() as net.AddressInfo).port}`,
		async cut(work) {
			isCut = true;
			cutAll();
			await work();
			isCut = false;
		},
		freeze(isFrozen) {
			for (const [near, far] of pairs) {
				if (isFrozen) {
					near.unpipe(far);
					far.unpipe(near);
				} else {
					near.pipe(far).pipe(near);
				}
			}
		},
		async [Symbol.asyncDispose]() {
			cutAll();
			await new Promise((resolve) => server.close(resolve));
		},
	};
}
