// The rules of ARCHITECTURE.md that a compiler does not check: who may import whom, no cycles, no catch-all folders, no
// file past 400 lines, no ambient time or randomness in the subsystems. Prints every violation; exit code 1 if there is one.
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";

const root = resolve(import.meta.dirname, "..");
const PURE = ["subjects", "content", "hub-error", "clock", "expressions", "schemas", "versions", "telemetry", "wire"];
const PORTS = [...PURE, "streams", "state"];
const DOMAIN = [...PORTS, "idempotency", "outbox", "dead-letters", "gen"];
const BACKENDS = ["state/memory", "state/embedded"];

/** What each room may import beside itself; a room is a folder below `src`, or a file at its top. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
	"hub-error": [],
	subjects: ["hub-error"],
	content: ["hub-error"],
	clock: ["hub-error"],
	expressions: ["hub-error"],
	schemas: ["hub-error", "content"],
	versions: ["hub-error"],
	wire: ["hub-error"],
	telemetry: ["hub-error"],
	streams: ["hub-error", "clock"],
	state: ["streams", "hub-error", "clock"],
	"state/memory": ["state", "streams", "hub-error", "telemetry", "clock"],
	"state/embedded": ["state", "streams", "hub-error", "telemetry", "clock"],
	idempotency: ["state", "hub-error", "clock", "gen"],
	outbox: ["state", "hub-error", "clock", "gen"],
	"dead-letters": ["state", "hub-error", "clock", "gen"],
	security: [...PORTS, "idempotency", "outbox", "gen"],
	plugins: DOMAIN,
	messaging: DOMAIN,
	events: DOMAIN,
	stores: DOMAIN,
	rpc: [...DOMAIN, "security", "plugins", "messaging", "events", "stores"],
	server: [...DOMAIN, ...BACKENDS, "security", "plugins", "messaging", "events", "stores", "rpc"],
	client: ["gen", "subjects", "streams", "versions", "clock"],
	config: ["server"],
	"backup-task": ["server", "config", "client", "state", "gen"],
	run: ["server", "config", "telemetry", "backup-task"],
	main: ["run"],
	index: ["server", "messaging", "stores", "hub-error", "state", "telemetry", "clock", "config"],
};

/** Libraries that only some rooms may import: transports at the edge, storage engines in their backend. */
const LIBRARY_ROOMS: readonly { readonly specifiers: RegExp; readonly rooms: readonly string[] }[] = [
	{
		specifiers: /^(@connectrpc\/|node:http2$|node:http$|node:net$|node:tls$)/,
		rooms: ["rpc", "server", "client", "backup-task"],
	},
	{ specifiers: /^@grpc\//, rooms: ["client"] },
	{ specifiers: /^(ajv\/|re2js$)/, rooms: ["schemas"] },
	{ specifiers: /^(lmdb|fs-native-extensions)$/, rooms: ["state/embedded"] },
];
const AMBIENT = /\b(Date\.now|Math\.random|setTimeout|setInterval|crypto\.randomUUID|performance\.now)\b/;
const AMBIENT_ROOMS = ["clock", "server", "client", "telemetry", "run", "main"];
const CATCH_ALL = /(^|\/)(utils?|common|helpers?|types|shared)(\.ts)?(\/|$)/;

const problems: string[] = [];
const imports = new Map<string, string[]>();

function roomOf(file: string): string {
	const parts = relative(join(root, "src"), file).split("/");
	if (parts.length === 1) return (parts[0] ?? "").replace(/\.ts$/, "");
	return parts[0] === "state" && parts.length > 2 ? `state/${parts[1]}` : (parts[0] ?? "");
}

const files = readdirSync(join(root, "src"), { recursive: true, withFileTypes: true })
	.filter((entry) => entry.isFile() && entry.name.endsWith(".ts"))
	.map((entry) => join(entry.parentPath, entry.name));

for (const file of files) {
	const name = relative(root, file);
	const text = readFileSync(file, "utf8");
	const room = roomOf(file);
	const allowed = ALLOWED[room];
	if (!allowed) problems.push(`${name}: no import rule for the room "${room}"`);
	if (CATCH_ALL.test(name)) problems.push(`${name}: a folder or file is named after its concept`);
	const lines = text.split("\n").length;
	if (lines > 401) problems.push(`${name}: ${lines} lines; no file goes past 400`);
	const code = text.replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, "");
	const ambient = AMBIENT.exec(code);
	if (ambient && !AMBIENT_ROOMS.includes(room))
		problems.push(`${name}: ${ambient[1]} is ambient; inject Clock or IdSource`);
	const targets: string[] = [];
	for (const match of code.matchAll(/(?:\bfrom\s*|\bimport\s*\(\s*|\bimport\s+)"([^"]+)"/g)) {
		const specifier = match[1] ?? "";
		if (specifier.startsWith(".")) {
			const target = resolve(dirname(file), specifier);
			if (!target.startsWith(join(root, "src"))) {
				problems.push(`${name}: imports ${specifier} from outside src`);
				continue;
			}
			targets.push(target);
			const targetRoom = roomOf(target);
			if (targetRoom !== room && !allowed?.includes(targetRoom))
				problems.push(`${name}: ${room} may not import ${targetRoom}`);
		} else if (specifier.startsWith("#gen/")) {
			if (!allowed?.includes("gen")) problems.push(`${name}: ${room} may not import generated code`);
		} else {
			for (const rule of LIBRARY_ROOMS) {
				if (rule.specifiers.test(specifier) && !rule.rooms.includes(room))
					problems.push(`${name}: ${room} may not import ${specifier}`);
			}
		}
	}
	imports.set(file, targets);
}

const done = new Set<string>();
function visit(file: string, path: readonly string[]): void {
	const start = path.indexOf(file);
	if (start >= 0) {
		problems.push(`cycle: ${[...path.slice(start), file].map((part) => relative(root, part)).join(" -> ")}`);
		return;
	}
	if (done.has(file)) return;
	for (const target of imports.get(file) ?? []) visit(target, [...path, file]);
	done.add(file);
}
for (const file of files) visit(file, []);

for (const problem of problems) process.stdout.write(`${problem}\n`);
process.stdout.write(`import rules: ${files.length} files, ${problems.length} problems\n`);
process.exitCode = problems.length === 0 ? 0 : 1;
