/** No text of a known format is longer. */
const MAX_FORMATTED = 2048;

const DATE = /^(\d{4})-(\d{2})-(\d{2})$/;
const TIME = /^(\d{2}):(\d{2}):(\d{2})(?:\.\d{1,32})?(?:[Zz]|[+-](\d{2}):(\d{2}))$/;
const LABEL = /^[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/;
const MAILBOX = /^[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}$/;
const OCTET = /^(?:0|[1-9]\d{0,2})$/;
const GROUP = /^[0-9A-Fa-f]{1,4}$/;
const UUID = /^[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$/;
const URI = /^[A-Za-z][A-Za-z0-9+.-]{0,63}:(?:[A-Za-z0-9._~:/?#[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+$/;

/**
 * The formats that a schema may ask for; they are checked, and others are refused. Dates and times are RFC 3339 (without leap
 * seconds), `email` a dot-atom at a host name, `hostname` RFC 1123, `uri` a scheme and the characters of RFC 3986. Each
 * takes time linear in the text, of which at most 2,048 characters are looked at: longer texts are of no format.
 */
export const SCHEMA_FORMATS: ReadonlyMap<string, (text: string) => boolean> = new Map(
	Object.entries({
		date: isDate,
		time: isTime,
		"date-time": (text) =>
			(text[10] === "T" || text[10] === "t") && isDate(text.slice(0, 10)) && isTime(text.slice(11)),
		email: isEmail,
		hostname: isHost,
		ipv4: isIpv4,
		ipv6: isIpv6,
		uri: (text) => URI.test(text),
		uuid: (text) => UUID.test(text),
	} satisfies Record<string, (text: string) => boolean>).map(([name, is]) => [
		name,
		(text: string) => text.length <= MAX_FORMATTED && is(text),
	]),
);

function isDate(text: string): boolean {
	const [, year, month, day] = (DATE.exec(text) ?? []).map(Number);
	if (year === undefined || month === undefined || day === undefined || month < 1 || month > 12) return false;
	const isLeap = year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0);
	const days = [31, isLeap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
	return day >= 1 && day <= days[month - 1]!;
}

function isTime(text: string): boolean {
	const parts = TIME.exec(text);
	if (parts === null) return false;
	const [hour, minute, second, zoneHour, zoneMinute] = parts.slice(1).map((part) => Number(part ?? 0));
	return hour! <= 23 && minute! <= 59 && second! <= 59 && zoneHour! <= 23 && zoneMinute! <= 59;
}

function isHost(text: string): boolean {
	return text.length <= 253 && text.split(".").every((label) => LABEL.test(label));
}

function isEmail(text: string): boolean {
	const at = text.lastIndexOf("@");
	const name = text.slice(0, at);
	if (at < 1 || !MAILBOX.test(name) || name.split(".").includes("")) return false;
	return isHost(text.slice(at + 1));
}

function isIpv4(text: string): boolean {
	const octets = text.split(".");
	return octets.length === 4 && octets.every((octet) => OCTET.test(octet) && Number(octet) <= 255);
}

function isIpv6(text: string): boolean {
	if (text.length > 45) return false;
	const halves = text.split("::");
	if (halves.length > 2) return false;
	const groups = halves.map((half) => (half === "" ? [] : half.split(":")));
	const last = groups.at(-1)!;
	let count = groups.flat().length;
	if (last.at(-1)?.includes(".")) {
		if (!isIpv4(last.pop()!)) return false;
		count++;
	}
	return groups.flat().every((group) => GROUP.test(group)) && (halves.length === 2 ? count < 8 : count === 8);
}
