export { ConfigError, parseConfig } from "./config.ts";
export type { Middleware, MiddlewareContext, MiddlewareVerdict } from "./messaging/middleware.ts";
export { DEFAULT_OPTIONS, type HubOptions } from "./server/hub-options.ts";
export { type RunningHub, StartError, type StartHubOptions, startHub } from "./server/start-hub.ts";
export type { EntryFunction, EntryProblem } from "./stores/validator-compiler.ts";
export { createLogger, type Logger, type LogLevel, silentLogger } from "./telemetry/logger.ts";
