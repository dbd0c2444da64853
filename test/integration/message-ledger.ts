interface Got {
	readonly time: number;
	readonly id: string;
}

/** What senders and recipients of durable messages were told, kept outside the hub and outside the recipients. */
export class MessageLedger {
	/** Ids in the order in which each key's messages were sent. */
	readonly sent = new Map<string, string[]>();
	/** Ids that the hub has accepted. */
	readonly accepted = new Set<string>();
	readonly got: Got[] = [];
	/** Ids that have come. */
	readonly came = new Set<string>();
	/** When the acknowledgement of an id was confirmed. */
	readonly confirmed = new Map<string, number>();

	/** Takes a whole line of a recipient. */
	hear(line: string): void {
		const [kind, time, id = ""] = line.split(" ");
		if (kind === "got") {
			this.got.push({ time: Number(time), id });
			this.came.add(id);
		}
		if (kind === "confirmed") this.confirmed.set(id, Number(time));
	}

	/** None came again after its acknowledgement was confirmed, and each key's came in the order in which they were sent. */
	verify(): void {
		this.got.sort((a, b) => a.time - b.time);
		for (const { id, time } of this.got) {
			const confirmed = this.confirmed.get(id);
			if (confirmed !== undefined && time > confirmed) throw new Error(`${id} came after it was confirmed`);
		}
		const places = new Map<string, number>();
		const positions = new Map<string, { key: string; at: number }>();
		for (const [key, ids] of this.sent) for (const [at, id] of ids.entries()) positions.set(id, { key, at });
		for (const { id } of this.got) {
			const { key, at } = positions.get(id)!;
			const place = places.get(key) ?? -1;
			if (at !== place && at !== place + 1) throw new Error(`${id} came as ${at} of ${key}, after ${place}`);
			places.set(key, at);
		}
	}

	/** Accepted messages that have not come. */
	get missing(): readonly string[] {
		return [...this.accepted].filter((id) => !this.came.has(id));
	}
	/** How far everything is. */
	get summary(): string {
		return `${this.accepted.size} accepted, ${this.came.size} came, ${this.confirmed.size} confirmed`;
	}
}
