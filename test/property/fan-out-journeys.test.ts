import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, it } from "vitest";
import { type Route, RouteSchema } from "#gen/qirvo/hub/v1/routes_pb.js";
import { parseMessage } from "../../src/messaging/message-draft.ts";
import { MAX_HOPS, RouteTable } from "../../src/messaging/route-table.ts";
import { SharedJourneys } from "../../src/messaging/shared-journeys.ts";
import { WireWriter } from "../../src/wire/wire-writer.ts";
import { SequentialIds } from "../harness/fake-clock.ts";

const PLUGINS = Array.from({ length: 12 }, (_, index) => `p-${index}`);
const SOURCE = "p-0";

const plugin = fc.integer({ min: 0, max: PLUGINS.length - 1 });
/** A route leads to a plugin of a higher number, so that there is no circle. */
const routeOf = fc.record({
	from: plugin,
	to: plugin,
	other: plugin,
	kind: fc.constantFrom("redirect", "split", "mirror", "deny"),
	everywhere: fc.boolean(),
	priority: fc.integer({ min: -2, max: 2 }),
});

function build(specs: readonly (typeof routeOf extends fc.Arbitrary<infer T> ? T : never)[]): Route[] {
	return specs.flatMap(({ from, to, other, kind, everywhere, priority }, index) => {
		const name = `r-${index}`;
		const match = { address: { case: "recipient", value: PLUGINS[from]! } } as const;
		const anywhere = everywhere && (kind === "mirror" || (kind === "deny" && priority === 2));
		const base = { name, priority, ...(!anywhere && { match }) };
		if (kind === "deny") return [create(RouteSchema, { ...base, action: { case: "deny", value: {} } })];
		if (kind === "mirror") return [create(RouteSchema, { ...base, action: { case: "mirror", value: PLUGINS[to]! } })];
		if (to <= from) return [];
		if (kind === "redirect") {
			return [create(RouteSchema, { ...base, action: { case: "redirect", value: PLUGINS[to]! } })];
		}
		const targets = [...new Set([to, Math.max(other, from)])].map((each) => ({ pluginId: PLUGINS[each]!, weight: 1 }));
		return [create(RouteSchema, { ...base, action: { case: "split", value: { targets } } })];
	});
}

it("each plugin gets one copy at most, each mirror makes one at most, and nobody who was meant is forgotten", () => {
	const wire = new WireWriter();
	wire.string(1, "m-1");
	wire.string(2, "news");
	const draft = parseMessage(wire.finish(), SOURCE, "message", "durable");
	fc.assert(
		fc.property(fc.array(routeOf, { maxLength: 12 }), fc.shuffledSubarray(PLUGINS.slice(1)), (specs, recipients) => {
			const table = new RouteTable(build(specs), new SequentialIds());
			const message = { type: "news", sender: SOURCE, key: "m-1" };
			const resolve = ({ name }: { name: string }) => name;
			const alone = (name: string) => table.follow({ kind: "plugin", name }, message, resolve);
			const journeys = new SharedJourneys({
				routes: { lead: (to) => table.follow(to, message, resolve) },
				resolve,
				draft,
				source: SOURCE,
				mayReachSender: false,
			});
			const reached: string[] = [];
			let denied = 0;
			let refused = 0;
			const led = recipients.flatMap((name) => {
				try {
					const journey = journeys.lead({ kind: "plugin", name });
					if (journey?.denial !== undefined) denied++;
					else if (journey !== undefined) reached.push(journey.recipient);
					return journey !== undefined && journey.denial === undefined ? [journey] : [];
				} catch {
					refused++;
					return [];
				}
			});
			expect(new Set(reached).size).toBe(reached.length);
			expect(reached).not.toContain(SOURCE);
			expect(reached.length + denied + refused + journeys.merged).toBe(recipients.length);
			const mirrors = led.flatMap(({ recipient }) => journeys.takeMirrors(recipient));
			expect(led.flatMap(({ recipient }) => journeys.takeMirrors(recipient))).toEqual([]);
			const wanted = new Map<string, string>();
			let naivelyDenied = 0;
			const naive = new Set<string>();
			for (const name of recipients) {
				try {
					const journey = alone(name);
					if (journey.denial !== undefined) naivelyDenied++;
					else {
						naive.add(journey.recipient);
						for (const { route, recipient } of journey.mirrors) wanted.set(route, recipient);
					}
				} catch {
					// More than `MAX_HOPS` routes.
					expect(specs.length).toBeGreaterThan(MAX_HOPS);
				}
			}
			expect(naivelyDenied).toBe(denied);
			expect(new Set(reached)).toEqual(naive);
			const due = [...wanted].filter(([, recipient]) => recipient !== SOURCE && !naive.has(recipient));
			expect(mirrors.map(({ route, recipient }) => [route, recipient]).toSorted()).toEqual(due.toSorted());
		}),
	);
});
