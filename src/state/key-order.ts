const SURROGATES = 0xd800;
const AFTER_SURROGATES = 0xe000;

/**
 * Orders well-formed strings as their UTF-8 bytes are ordered, which is by code point. `<` orders by UTF-16 unit and puts
 * characters beyond the basic plane before U+E000 to U+FFFF.
 */
export function compareKeys(a: string, b: string): number {
	const length = Math.min(a.length, b.length);
	for (let index = 0; index < length; index++) {
		const left = a.charCodeAt(index);
		const right = b.charCodeAt(index);
		if (left !== right) return rank(left) - rank(right);
	}
	return a.length - b.length;
}

function rank(unit: number): number {
	if (unit < SURROGATES) return unit;
	return unit < AFTER_SURROGATES ? unit + 0x10000 : unit;
}
