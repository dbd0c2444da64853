import { type Client, createClient } from "@connectrpc/connect";
import { StoreService } from "#gen/qirvo/hub/v1/store_service_pb.js";
import type { ClientContext } from "./client-context.ts";
import { type Expected, toExpectedState } from "./expected.ts";
import { type CallOptions, repeatCall } from "./repeat-call.ts";
import { type StoreInfo, type StoreSettings, storeInfo, toStoreConfig } from "./store-settings.ts";

export interface StoreCallOptions extends CallOptions {
	/** Names the change, at most 128 characters: a repeat within two minutes gives the first answer. Default: a new one. */
	readonly requestId?: string;
	/** Check only; change nothing. */
	readonly validateOnly?: boolean;
}

export interface StoreChangeOptions extends StoreCallOptions {
	/** What the store must look like; otherwise REVISION_MISMATCH. Default `any`. */
	readonly expected?: Expected;
}

export interface StoresListOptions extends CallOptions {
	/** Only stores of this plugin. */
	readonly owner?: string;
	/** Stores in one call, at most 500. Default 50. */
	readonly pageSize?: number;
}

/** The stores themselves. Changes are sent again after a loss, and happen once. */
export class Stores {
	readonly #context: ClientContext;
	readonly #client: Client<typeof StoreService>;

	constructor(context: ClientContext) {
		this.#context = context;
		this.#client = createClient(StoreService, context.transport);
	}

	/** Makes a store of this plugin. Rejects with STORE_EXISTS where the name is taken. */
	async create(name: string, settings: StoreSettings = {}, options: StoreCallOptions = {}): Promise<StoreInfo> {
		const request = { name, config: toStoreConfig(settings), ...this.#change(options) };
		return storeInfo((await this.#write(options, (call) => this.#client.createStore(request, call))).store);
	}

	/** One store. Rejects with STORE_NOT_FOUND. */
	async get(name: string, options: CallOptions = {}): Promise<StoreInfo> {
		return storeInfo((await repeatCall(this.#context, options, (call) => this.#client.getStore({ name }, call))).store);
	}

	/** The stores that this plugin may use, in order of name; for an operator all. Asks for a page at a time. */
	async *list(options: StoresListOptions = {}): AsyncGenerator<StoreInfo, void, undefined> {
		const { owner = "", pageSize = 50, ...rest } = options;
		let pageToken = "";
		do {
			const request = { owner, pageSize, pageToken };
			const page = await repeatCall(this.#context, rest, (call) => this.#client.listStores(request, call));
			for (const store of page.stores) yield storeInfo(store);
			pageToken = page.nextPageToken;
		} while (pageToken !== "");
	}

	/** Replaces all of the settings: what they leave out is as by default. */
	async update(name: string, settings: StoreSettings, options: StoreChangeOptions = {}): Promise<StoreInfo> {
		const config = toStoreConfig(settings);
		const request = { name, config, expected: toExpectedState(options.expected), ...this.#change(options) };
		return storeInfo((await this.#write(options, (call) => this.#client.updateStore(request, call))).store);
	}

	/** Deletes a store of this plugin with all its entries. */
	async delete(name: string, options: StoreChangeOptions = {}): Promise<void> {
		const request = { name, expected: toExpectedState(options.expected), ...this.#change(options) };
		await this.#write(options, (call) => this.#client.deleteStore(request, call));
	}

	/** Gives a store of this plugin to another one. */
	async transfer(name: string, newOwner: string, options: StoreChangeOptions = {}): Promise<StoreInfo> {
		const request = { name, newOwner, expected: toExpectedState(options.expected), ...this.#change(options) };
		return storeInfo((await this.#write(options, (call) => this.#client.transferStore(request, call))).store);
	}

	#change({ requestId, validateOnly = false }: StoreCallOptions) {
		return { requestId: requestId ?? this.#context.ids.next(), validateOnly };
	}

	#write<R>(options: CallOptions, call: (options: { readonly signal: AbortSignal }) => Promise<R>): Promise<R> {
		const { timeout, signal } = options;
		return repeatCall(this.#context, { timeout, signal, hasRequestId: true }, call);
	}
}
