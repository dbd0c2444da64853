/** The JetStream stream of the work queue benchmark. */
export const WORK_QUEUE = { stream: "work", subject: "bench.work", consumer: "worker" } as const;
