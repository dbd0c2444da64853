import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startLocalHub } from "../../examples/local-hub.ts";
import { connectClients } from "../harness/hub.ts";
import { runHub, runProgram, TestFolder } from "../harness/hub-process.ts";
import { ROOT } from "./tools.ts";

/** The oldest Node that the package promises to run on. */
const OLDEST_NODE = "22.23.2";

const manifest = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
	name: string;
	version: string;
	devDependencies: Record<string, string>;
};

/** A project that has the packed hub and what compiles TypeScript, and beside it another Node. Needs the npm registry. */
let folder: TestFolder;
let project: string;
let oldNode: string;

beforeAll(async () => {
	folder = new TestFolder();
	project = join(folder.path, "project");
	oldNode = join(folder.path, "old-node");
	const packed = await npm(ROOT, "pack", "--silent", "--pack-destination", folder.path);
	const tarball = join(folder.path, packed.trim().split("\n").at(-1)!);
	const tools = ["typescript", "@types/node"].map((name) => `${name}@${manifest.devDependencies[name]}`);
	for (const directory of [project, oldNode]) {
		mkdirSync(directory);
		writeFileSync(join(directory, "package.json"), JSON.stringify({ private: true, type: "module" }));
	}
	await npm(project, "install", "--no-audit", "--no-fund", tarball, ...tools);
	await npm(oldNode, "install", "--no-audit", "--no-fund", `node@${OLDEST_NODE}`);
});
afterAll(() => folder?.[Symbol.dispose]());

describe("the package", () => {
	it("holds what is compiled, generated and to be read, and nothing else", () => {
		const top = readdirSync(join(project, "node_modules", manifest.name));
		expect(top.filter((name) => name !== "node_modules").toSorted()).toEqual([
			"CHANGELOG.md",
			"LICENSE",
			"README.md",
			"dist",
			"gen",
			"package.json",
			"proto",
		]);
	});

	it("compiles the README's example, and a program that embeds a hub, in a strict project", async () => {
		const compilerOptions = { target: "es2024", module: "nodenext", strict: true, outDir: "out", types: ["node"] };
		writeFileSync(join(project, "tsconfig.json"), JSON.stringify({ compilerOptions, include: ["*.ts"] }));
		writeFileSync(join(project, "readme.ts"), readmeBlock("ts"));
		writeFileSync(
			join(project, "embed.ts"),
			`import { startHub, silentLogger, type RunningHub } from "${manifest.name}";
			await using hub: RunningHub = await startHub({
				logger: silentLogger,
				options: { listen: { host: "127.0.0.1", port: 0 }, state: "memory", dataDirectory: process.argv[2]! },
			});
			console.log(hub.url);`,
		);
		await run(join(project, "node_modules", ".bin", "tsc"), ["-p", "."]);
	});

	describe.each(["this Node", `Node ${OLDEST_NODE}`])("on %s", (name) => {
		/** Which `node` the command and the programs find. */
		const env = (): Record<string, string> =>
			name === "this Node"
				? {}
				: {
						PATH: `${join(oldNode, "node_modules", ".bin")}:${join(oldNode, "node_modules", "node", "bin")}:${process.env.PATH}`,
					};
		const command = () => join(project, "node_modules", ".bin", "plugin-hub");

		it("has a command", async () => {
			const node = await run("node", ["--version"], env());
			expect(node.trim()).toBe(name === "this Node" ? process.version : `v${OLDEST_NODE}`);
			expect((await run(command(), ["--version"], env())).trim()).toBe(manifest.version);
			expect(await run(command(), ["--help"], env())).toBe((await runHub(["--help"])).stdout);
		});

		it.each(["memory", "embedded"])("runs the README's example against the %s hub of that command", async (state) => {
			const data = join(folder.path, `${state} on ${name}`);
			await using hub = await startLocalHub({
				command: [command()],
				flags: ["--dev", "--state", state, "--data", data],
				env: env(),
			});
			const example = readFileSync(join(project, "out", "readme.js"), "utf8");
			const here = join(project, "out", "readme-here.js");
			writeFileSync(here, example.replace("http://127.0.0.1:50051", hub.url));
			const printed = await run("node", [here], env());
			expect(printed.trim().split("\n").toSorted()).toEqual(["diary: It did not rain.", "garden: 6 litres"]);
			using operator = connectClients(hub.url, hub.operatorToken);
			const { version, backend } = await operator.hub.getHubInfo({});
			expect({ version, backend }).toEqual({ version: manifest.version, backend: state });
			expect(await hub.stop()).toEqual({ code: 0, signal: null });
		});

		it("can be embedded, and has the generated clients", async () => {
			const embedded = await run("node", [join(project, "out", "embed.js"), join(folder.path, `embed ${name}`)], env());
			expect(embedded).toMatch(/^http:\/\/127\.0\.0\.1:\d+\n$/);
			const imports = join(project, "imports.js");
			writeFileSync(imports, `${readmeBlock("js")}\nconsole.log(EventService.typeName, typeof createGrpcJsTransport);`);
			expect(await run("node", [imports], env())).toBe("qirvo.hub.v1.EventService function\n");
		});
	});
});

/** The README's first block of this language that imports the client. */
function readmeBlock(language: string): string {
	const readme = readFileSync(join(ROOT, "README.md"), "utf8");
	const blocks = [...readme.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)];
	const block = blocks.find(([, of, text]) => of === language && text?.includes(`${manifest.name}/client"`))?.[2];
	if (block === undefined) throw new Error(`README.md has no ${language} block that imports the client`);
	return block;
}

/** Runs a program in the project; what it printed. Fails where it fails or complains. */
async function run(program: string, args: readonly string[], env: Record<string, string> = {}): Promise<string> {
	const { code, stdout, stderr } = await runProgram(program, args, { cwd: project, env, timeoutMs: 60_000 });
	expect({ code, stderr, stdout: code === 0 ? "" : stdout }).toEqual({ code: 0, stderr: "", stdout: "" });
	return stdout;
}

async function npm(cwd: string, ...args: string[]): Promise<string> {
	const { code, stdout, stderr } = await runProgram("npm", args, { cwd, timeoutMs: 150_000 });
	if (code !== 0) throw new Error(`npm ${args[0]} ended with ${code}: ${stderr}${stdout}`);
	return stdout;
}
