import type { Route, SplitAction } from "#gen/qirvo/hub/v1/routes_pb.js";
import { HubError } from "../hub-error.ts";
import { parsePattern } from "../subjects/pattern.ts";
import { parsePluginId } from "../subjects/plugin-id.ts";

const MAX_PRIORITY = 1000;
const MAX_ALIAS = 256;
const MAX_TYPES = 16;
const MAX_SENDERS = 64;
const MAX_TARGETS = 16;
const MAX_WEIGHT = 10_000;
const MAX_REASON = 512;

/** Refuses a route that could not work as it is, with the path of what is wrong. */
export function parseRoute(route: Route | undefined, field: string): Route {
	if (route === undefined) throw HubError.field(field, "is required");
	parseRouteName(route.name, `${field}.name`);
	if (Math.abs(route.priority) > MAX_PRIORITY) {
		throw HubError.field(`${field}.priority`, `must be -${MAX_PRIORITY} to ${MAX_PRIORITY}`);
	}
	checkMatch(route, `${field}.match`);
	checkAction(route, field);
	return route;
}

/** Route names have the form of plugin ids. */
export function parseRouteName(name: string, field: string): string {
	if (name === "") throw HubError.field(field, "is required");
	return parsePluginId(name, field);
}

function checkMatch({ match }: Route, field: string): void {
	if (match === undefined) return;
	const { address, types, senders } = match;
	if (address.case === "alias" && (address.value === "" || address.value.length > MAX_ALIAS)) {
		throw HubError.field(`${field}.alias`, `must have 1 to ${MAX_ALIAS} characters`);
	}
	if (address.case === "recipient") parsePluginId(address.value, `${field}.recipient`);
	atMost(types, MAX_TYPES, `${field}.types`);
	atMost(senders, MAX_SENDERS, `${field}.senders`);
	for (const [index, type] of types.entries()) parsePattern(type, `${field}.types[${index}]`);
	for (const [index, sender] of senders.entries()) parsePluginId(sender, `${field}.senders[${index}]`);
}

function checkAction({ action, match }: Route, field: string): void {
	const address = match?.address;
	switch (action.case) {
		case "alias":
			parsePluginId(action.value, `${field}.alias`);
			if (address?.case !== "alias") throw HubError.field(`${field}.match.alias`, "is required of an alias");
			return;
		case "split":
			checkSplit(action.value, `${field}.split`);
			if (address?.case === undefined) throw HubError.field(`${field}.match`, "a split is for an alias or a recipient");
			return;
		case "mirror":
			parsePluginId(action.value, `${field}.mirror`);
			return;
		case "redirect":
			parsePluginId(action.value, `${field}.redirect`);
			if (address?.case !== "recipient") throw HubError.field(`${field}.match.recipient`, "is required of a redirect");
			return;
		case "deny":
			if (action.value.reason.length > MAX_REASON) {
				throw HubError.field(`${field}.deny.reason`, `has more than ${MAX_REASON} characters`);
			}
			return;
		case undefined:
			throw HubError.field(field, "says nothing; set alias, split, mirror, redirect or deny");
	}
}

function checkSplit({ targets }: SplitAction, field: string): void {
	if (targets.length === 0) throw HubError.field(`${field}.targets`, "is empty");
	atMost(targets, MAX_TARGETS, `${field}.targets`);
	const ids = new Set<string>();
	for (const [index, { pluginId, weight }] of targets.entries()) {
		const path = `${field}.targets[${index}]`;
		parsePluginId(pluginId, `${path}.plugin_id`);
		if (ids.has(pluginId)) throw HubError.field(`${path}.plugin_id`, "is there twice");
		ids.add(pluginId);
		if (weight < 1 || weight > MAX_WEIGHT) throw HubError.field(`${path}.weight`, `must be 1 to ${MAX_WEIGHT}`);
	}
}

function atMost(list: readonly unknown[], most: number, field: string): void {
	if (list.length > most) throw HubError.field(field, `has ${list.length} entries; at most ${most} are allowed`);
}
