/** Where and how a hub is asked to listen. */
export interface BindPlan {
	/** A host name or an address without brackets. */
	readonly host: string;
	readonly tls: boolean;
	readonly dev: boolean;
}

/** A setting that must not be used so. */
export interface BindProblem {
	readonly setting: "listen" | "dev";
	readonly problem: string;
}

/** Whether the host names this machine alone. A name other than `localhost` may resolve to anything and does not. */
export function isLoopback(host: string): boolean {
	const name = host.toLowerCase();
	return name === "localhost" || name === "::1" || isLoopbackIpv4(name) || isLoopbackIpv4(mappedIpv4(name));
}

/** What is unsafe about listening so; undefined where nothing is. Beyond loopback only TLS; without credentials only loopback. */
export function bindProblem(plan: BindPlan): BindProblem | undefined {
	if (isLoopback(plan.host)) return undefined;
	if (plan.dev) {
		return {
			setting: "dev",
			problem: `lets anybody in who can connect, so it needs a loopback address to listen on, not "${plan.host}"`,
		};
	}
	if (!plan.tls) {
		return {
			setting: "listen",
			problem: `"${plan.host}" can be reached from other machines, which would send their credentials in the clear; set tls-cert and tls-key, or listen on 127.0.0.1`,
		};
	}
	return undefined;
}

function isLoopbackIpv4(text: string): boolean {
	return /^127(?:\.(?:25[0-5]|2[0-4]\d|1\d\d|\d\d?)){3}$/.test(text);
}

function mappedIpv4(text: string): string {
	return text.startsWith("::ffff:") ? text.slice(7) : "";
}
