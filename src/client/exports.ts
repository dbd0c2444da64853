export { type CloudEvent, fromCloudEvent, toCloudEvent } from "./cloud-event.ts";
export type { ConsumeContext, ConsumeHandler } from "./consuming.ts";
export type {
	DeadEvent,
	DeadLetter,
	DeadLetterListOptions,
	DeadLetterOptions,
	DeadLetterOutcome,
	DeadLetterSelection,
	DeadMessage,
} from "./dead-letters.ts";
export type { HandlerContext, MessageHandler } from "./deliveries.ts";
export type { DeliveryPolicy } from "./delivery-policy.ts";
export type { ConsumeOptions, DurableConsumer } from "./durable-consumer.ts";
export type { DurableEvents, DurableOptions } from "./durable-events.ts";
export {
	HandlerError,
	type HandlerErrorOptions,
	HubClientError,
	type HubReason,
	type Reason,
	RemoteError,
	toClientError,
} from "./errors.ts";
export type { EventStart } from "./event-feed.ts";
export type {
	EventGap,
	EventHandler,
	EventSubscription,
	SubscriptionHooks,
	SubscriptionProblem,
} from "./event-subscription.ts";
export type {
	EmitOptions,
	EventDraft,
	ListOptions,
	OnceOptions,
	Patterns,
	ReplayOptions,
	StreamOptions,
	SubscribeOptions,
} from "./events.ts";
export type { Expected, FailedCheck } from "./expected.ts";
export type { FeedPosition } from "./feed-position.ts";
export type { HubClient, HubClientOptions } from "./hub-client.ts";
export type { HubEvent } from "./hub-event.ts";
export type { IncomingMessage, MessagePriority } from "./incoming-message.ts";
export type { InterceptHandler, Interception, InterceptOptions, InterceptVerdict } from "./interceptor.ts";
export type { ClientLogger } from "./logger.ts";
export type {
	BroadcastOptions,
	PublishOptions,
	Recipient,
	RequestManyOptions,
	RequestOptions,
	SendOptions,
	SendOutcome,
} from "./messages.ts";
export type { EmitResult } from "./pending-emit.ts";
export type { HandlerRegistration } from "./receiver.ts";
export type { CallOptions } from "./repeat-call.ts";
export type { Reply } from "./reply.ts";
export type { ManyReply, ManySummary } from "./request-many.ts";
export type { Route, RouteAction, RouteDraft, RouteMatch } from "./route.ts";
export type { RouteChangeOptions, RoutePut, Routes } from "./routes.ts";
export type { ConnectionState } from "./session-loop.ts";
export type { Store, StoreOptions, Updated, UpdateOptions } from "./store.ts";
export type { CacheOptions } from "./store-cache.ts";
export type { StoreCause, StoreChange } from "./store-change.ts";
export type { StoreEntry } from "./store-entry.ts";
export type { StoreStart } from "./store-feed.ts";
export type {
	AddOptions,
	ExpectingOptions,
	Incremented,
	LifeOptions,
	SetOptions,
	WriteOptions,
	Written,
} from "./store-options.ts";
export type { HistoryOptions, StoreListOptions, StoreSnapshot, StoreVersion } from "./store-reads.ts";
export type { StandardSchema, StoreSchema } from "./store-schema.ts";
export type {
	StoreAccessList,
	StoreBounds,
	StoreInfo,
	StoreRule,
	StoreSettings,
	StoreTrust,
} from "./store-settings.ts";
export type { Transacted, TransactionRecorder, TransactionSet } from "./store-transaction.ts";
export type { ChangeHandler, StoreWatch, WatchHooks, WatchOptions, WatchStreamOptions } from "./store-watch.ts";
export type { StoreCallOptions, StoreChangeOptions, Stores, StoresListOptions } from "./stores.ts";
export type { BroadcastFilter, FanOutOutcome, TopicListOptions, TopicSubscription } from "./topics.ts";
