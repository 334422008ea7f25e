/**
 * What your application says and is asked, declared once for all hooks:
 * `declare module 'fastify-push-bridge/react' { interface Application { messages: Publications; requests: Requests } }`.
 */
// biome-ignore lint/suspicious/noEmptyInterface: open on purpose, applications add to it by declaration merging
export interface Application {}

/** Types of messages and their payloads; any, until `Application` says so. */
export type MessagesOf = Application extends { messages: infer Messages extends object }
  ? Messages
  : Record<string, unknown>

export type RequestsOf = Application extends { requests: infer Requests extends object }
  ? Requests
  : Record<string, unknown>
