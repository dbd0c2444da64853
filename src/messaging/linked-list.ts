/** What may stand in one `LinkedList` at a time. The list owns the links. */
export interface Linked {
	previous: this | undefined;
	following: this | undefined;
}

/** A doubly linked list over its own items: adding, removing and taking from anywhere cost the same, however many there are. */
export class LinkedList<T extends Linked> {
	#first: T | undefined;
	#last: T | undefined;

	get first(): T | undefined {
		return this.#first;
	}

	get last(): T | undefined {
		return this.#last;
	}

	get isEmpty(): boolean {
		return this.#first === undefined;
	}

	/** The list must not change meanwhile. */
	*[Symbol.iterator](): Generator<T, void, undefined> {
		for (let item = this.#first; item !== undefined; item = item.following) yield item;
	}

	append(item: T): void {
		this.insertBefore(item, undefined);
	}

	/** Puts `item` before `place`; at the end where there is none. */
	insertBefore(item: T, place: T | undefined): void {
		const previous = place === undefined ? this.#last : place.previous;
		item.previous = previous;
		item.following = place;
		if (previous === undefined) this.#first = item;
		else previous.following = item;
		if (place === undefined) this.#last = item;
		else place.previous = item;
	}

	/** `item` must be in this list. */
	remove(item: T): void {
		if (item.previous === undefined) this.#first = item.following;
		else item.previous.following = item.following;
		if (item.following === undefined) this.#last = item.previous;
		else item.following.previous = item.previous;
		item.previous = undefined;
		item.following = undefined;
	}
}
