// Two plugins share a store. Start a hub with `npm start -- --dev` (or name one in HUB_URL), then run `node examples/stores.ts`.
import { connect, HubClientError } from "../src/client/index.ts";

/** Any schema with `parse` will do, and any Standard Schema. */
const Plant = {
	parse(value: unknown): { name: string; litres: number } {
		const { name, litres } = value as { name?: unknown; litres?: unknown };
		if (typeof name !== "string" || typeof litres !== "number") throw new TypeError("a plant has a name and litres");
		return { name, litres };
	},
};

const url = process.env.HUB_URL ?? "http://127.0.0.1:50051";
const manifest = (id: string) => ({ manifest_version: 2, id, name: id, version: "1.0.0", type: "service" });
await using gardener = await connect({ url, manifest: manifest("gardener") });
await using window = await connect({ url, manifest: manifest("window") });

// The owner says who may read and write, and what the hub itself makes sure of.
await gardener.stores.create("plants", {
	persistent: false,
	read: { plugins: ["*"] },
	validators: [{ name: "sober", glob: "plant/*", cel: "value.litres <= 10.0" }],
});
const plants = gardener.store("plants", { schema: Plant });
await plants.set("plant/fern", { name: "Fern", litres: 1 });

// A watch tells what is there, then every change.
const watered = Promise.withResolvers<void>();
const watch = await window.store("plants", { schema: Plant }).onChange(
	({ key, entry, previous, actor }) => {
		const [before, now] = [previous?.value.litres ?? "nothing", entry?.value.litres ?? "gone"];
		console.log(`${key}: ${before} -> ${now} by ${actor}`);
		if (entry?.value.litres === 3) watered.resolve();
	},
	{ glob: "plant/*" },
);

// Another reader keeps a copy by a watch of its own, so that its gets do not ask the hub.
using copy = window.store("plants", { schema: Plant, cache: { glob: "plant/*" } });
await copy.warm();
console.log(`the copy says ${(await copy.get("plant/fern"))?.value.litres} litre`);

// Reads, changes and writes again until nobody came between.
await plants.update("plant/fern", (plant) => ({ name: "Fern", litres: (plant?.litres ?? 0) + 2 }));
await watered.promise;

// All or nothing, under the condition that the fern is as it was seen.
const seen = await plants.get("plant/fern");
await plants.transact((tx) =>
	tx.check("plant/fern", seen!.revision).set("plant/cactus", { name: "Cactus", litres: 0.1 }),
);

for (const attempt of [
	() => plants.set("plant/fern", { name: "Fern", litres: 99 }),
	() => plants.set("plant/fern", { name: "Fern", litres: 4 }, { expected: "absent" }),
	() => copy.delete("plant/fern"),
]) {
	const error: unknown = await attempt().catch((refused: unknown) => refused);
	if (error instanceof HubClientError) console.log(`refused: ${error.reason}`);
}
for await (const { key, writer } of plants.list({ prefix: "plant/" })) console.log(`${key} was written by ${writer}`);
watch.unwatch();
