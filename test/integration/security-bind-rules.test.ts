import { expect, test } from "vitest";
import { bindProblem, isLoopback } from "../../src/security/bind-rules.ts";

test.each(["127.0.0.1", "127.255.0.9", "::1", "localhost", "LOCALHOST", "::ffff:127.0.0.1"])(
	"%s is loopback",
	(host) => {
		expect(isLoopback(host)).toBe(true);
		expect(bindProblem({ host, tls: false, dev: true })).toBeUndefined();
	},
);

test.each([
	"0.0.0.0",
	"::",
	"",
	"10.0.0.1",
	"127.0.0.256",
	"127.1",
	"127.0.0.1.example.com",
	"hub.example",
	"::ffff:10.0.0.1",
])("%j needs TLS and refuses --dev", (host) => {
	expect(isLoopback(host)).toBe(false);
	expect(bindProblem({ host, tls: false, dev: false })?.setting).toBe("listen");
	expect(bindProblem({ host, tls: true, dev: false })).toBeUndefined();
	expect(bindProblem({ host, tls: true, dev: true })?.setting).toBe("dev");
});
