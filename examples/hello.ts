// Two plugins meet. Start a hub with `npm start -- --dev` (or name one in HUB_URL), then run `node examples/hello.ts`.
import { connect } from "../src/client/index.ts";

const url = process.env.HUB_URL ?? "http://127.0.0.1:50051";
const manifest = (id: string) => ({ manifest_version: 2, id, name: id, version: "1.0.0", type: "service" });

await using greeter = await connect({ url, manifest: manifest("greeter") });
await using planner = await connect({ url, manifest: manifest("planner") });

const noticed = Promise.withResolvers<void>();
await greeter.events.on("task.*", (event) => {
	console.log(`${event.source} says ${event.type}: ${event.data.title}`);
	noticed.resolve();
});
await greeter.messages.handle("greet", (request) => ({ hello: request.data.name })).ready;

await planner.events.emit("task.created", { title: "Water the plants" });
const reply = await planner.messages.request("greeter", "greet", { name: "Ada" });
console.log(`${reply.source} answers: hello ${reply.data.hello}`);
await noticed.promise;
