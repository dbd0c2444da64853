import { createRegistry, type DescFile, type Registry, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { file_google_rpc_error_details } from "#gen/google/rpc/error_details_pb.js";
import { ServerReflection, type ServerReflectionRequest } from "#gen/grpc/reflection/v1/reflection_pb.js";
import { ServerReflection as ServerReflectionAlpha } from "#gen/grpc/reflection/v1alpha/reflection_pb.js";
import { type MountedService, mount } from "../rpc/call.ts";

/** What v1 and v1alpha answer alike: the two differ in their package alone. */
type Answer =
	| { case: "fileDescriptorResponse"; value: { fileDescriptorProto: Uint8Array[] } }
	| { case: "allExtensionNumbersResponse"; value: { baseTypeName: string; extensionNumber: number[] } }
	| { case: "listServicesResponse"; value: { service: { name: string }[] } }
	| { case: "errorResponse"; value: { errorCode: number; errorMessage: string } };

/** Answers questions about a fixed set of services from their descriptors. */
class Reflector {
	readonly #services: string[] = [];
	readonly #files = new Map<string, DescFile>();
	readonly #registry: Registry;

	constructor(services: readonly MountedService[]) {
		for (const { descriptor } of services) {
			this.#services.push(descriptor.typeName);
			this.#add(descriptor.file);
		}
		// Nothing imports these; tools that print the details of a failure ask for them.
		this.#add(file_google_rpc_error_details);
		this.#registry = createRegistry(...this.#files.values());
	}

	answer(question: ServerReflectionRequest["messageRequest"]): Answer {
		switch (question.case) {
			case "listServices":
				return { case: "listServicesResponse", value: { service: this.#services.map((name) => ({ name })) } };
			case "fileByFilename":
				return files(this.#files.get(question.value));
			case "fileContainingSymbol":
				return files(this.#fileOf(question.value));
			case "fileContainingExtension": {
				const { containingType, extensionNumber } = question.value;
				const message = this.#registry.getMessage(containingType);
				return files(message && this.#registry.getExtensionFor(message, extensionNumber)?.file);
			}
			case "allExtensionNumbersOfType": {
				const message = this.#registry.getMessage(question.value);
				if (!message) return notFound();
				const extensionNumber: number[] = [];
				for (const type of this.#registry) {
					if (type.kind === "extension" && type.extendee.typeName === message.typeName)
						extensionNumber.push(type.number);
				}
				return { case: "allExtensionNumbersResponse", value: { baseTypeName: message.typeName, extensionNumber } };
			}
			default:
				return { case: "errorResponse", value: { errorCode: Code.InvalidArgument, errorMessage: "nothing was asked" } };
		}
	}

	/** A type, or something inside one: a method, a field, an enum value. */
	#fileOf(symbol: string): DescFile | undefined {
		const type = this.#registry.get(symbol);
		if (type) return type.file;
		const dot = symbol.lastIndexOf(".");
		if (dot < 0) return undefined;
		const name = symbol.slice(dot + 1);
		const parent = this.#registry.get(symbol.slice(0, dot));
		switch (parent?.kind) {
			case "service":
				return parent.methods.some((method) => method.name === name) ? parent.file : undefined;
			case "message":
				return [...parent.fields, ...parent.oneofs].some((member) => member.name === name) ? parent.file : undefined;
			case "enum":
				return parent.values.some((value) => value.name === name) ? parent.file : undefined;
			default:
				return undefined;
		}
	}

	#add(file: DescFile): void {
		const name = file.proto.name;
		if (this.#files.has(name)) return;
		this.#files.set(name, file);
		for (const imported of file.dependencies) this.#add(imported);
	}
}

/** The file and all it imports, itself first, so that a tool needs one question. */
function files(file: DescFile | undefined): Answer {
	if (!file) return notFound();
	const found = new Map<string, Uint8Array>();
	const add = (each: DescFile) => {
		if (found.has(each.proto.name)) return;
		found.set(each.proto.name, toBinary(FileDescriptorProtoSchema, each.proto));
		each.dependencies.forEach(add);
	};
	add(file);
	return { case: "fileDescriptorResponse", value: { fileDescriptorProto: [...found.values()] } };
}

function notFound(): Answer {
	return { case: "errorResponse", value: { errorCode: Code.NotFound, errorMessage: "not found" } };
}

/** Reflection v1 and v1alpha over `services`, themselves included. */
export function reflectionServices(services: readonly MountedService[]): MountedService[] {
	let reflector: Reflector | undefined;
	async function* answers<Q extends { host: string; messageRequest: ServerReflectionRequest["messageRequest"] }>(
		questions: AsyncIterable<Q>,
	) {
		for await (const question of questions) {
			// Made when a tool first asks: most hubs are never asked, and all of them start.
			reflector ??= new Reflector([...services, ...own]);
			yield {
				validHost: question.host,
				originalRequest: question,
				messageResponse: reflector.answer(question.messageRequest),
			};
		}
	}
	const own = [
		mount(ServerReflection, { serverReflectionInfo: (questions) => answers(questions) }),
		mount(ServerReflectionAlpha, {
			serverReflectionInfo: (questions) => answers(questions as AsyncIterable<never>),
		}),
	];
	return own;
}
