import type { Gap, Welcome } from '../protocol/messages.ts'
import { ClientError } from './handlers.ts'
import type { Binary, ClientOptions, ClientState, PublishedMessage, Subscribed, WebSocketLike } from './options.ts'
import { resolveUrl } from './page.ts'
import { PushClient } from './session.ts'

export type { ClientOptions, ClientState, PublishedMessage, Subscribed, WebSocketLike }
export { ClientError }

/** What `listen` tells of: the client itself, never a published message. */
export interface ClientEvents {
  /** `code` and `reason`: why the connection ended; `delay`: milliseconds until the next attempt. */
  state: { state: ClientState; code?: number; reason?: string; delay?: number }
  /** At every connection. `topics` are those that it has by itself, each with `recovered` as in `subscribed`. */
  welcome: Welcome
  /**
   * The server's answer for a topic, after every reconnect too. `recovered` says what became of the messages that came
   * since the last one heard: true, they follow, in order and once; false, not all do, and a `gap` says so; absent, none
   * was heard before, or the server cannot say yet.
   */
  subscribed: Subscribed
  /**
   * Messages were or may have been missed: fetch again what the page shows of these topics. The first to the console when
   * nobody listens.
   */
  gap: Gap
  /** What failed with nobody waiting for it, and every refused topic. To the console when nobody listens. */
  error: ClientError
  /** Three attempts in a row went unanswered; trying goes on. `message`: what to check. To the console likewise. */
  unreachable: { attempts: number; message: string }
  /** The server sent what is no message of the protocol: `data`, as it came. The first to the console likewise. */
  invalid: { data: string }
  binary: ArrayBuffer
  /** The node is draining: it will close, and the next attempt follows `after` milliseconds later. */
  reconnect: { after: number }
}

/** `Messages` maps types to payloads: `connect<{ 'order.created': Order }>('/ws')`. */
export interface Client<Messages extends object = Record<string, unknown>> {
  readonly state: ClientState
  /** What the server said when it last welcomed this client. */
  readonly welcome: Welcome | undefined
  /**
   * The id of the last message of each recorded topic at hand, also when closed: JSON to keep for the option `since`.
   * A message counts from when its handlers are called. A topic of the option `since` that was not
   * subscribed yet is among them.
   */
  readonly positions: Readonly<Record<string, string>>
  /**
   * Calls `handler` for every message of a type, or of any with `'*'`; returns the way to stop it. Register before
   * subscribing: what was missed follows at once. A handler that throws or rejects is an `error` with code `HANDLER`. A
   * message whose publisher asked for it is acknowledged when all its handlers are done: not if one of them failed, nor
   * if it has none.
   */
  on<Type extends keyof Messages & string>(
    type: Type,
    handler: (payload: Messages[Type], message: PublishedMessage<Messages[Type]>) => unknown,
  ): () => void
  on(type: '*', handler: (payload: unknown, message: PublishedMessage) => unknown): () => void
  /** Calls `handler` for every such event; returns the way to stop it. */
  listen<Event extends keyof ClientEvents>(event: Event, handler: (detail: ClientEvents[Event]) => unknown): () => void
  /**
   * Subscribes now or when next welcomed, and after every reconnect, then with what was missed. Twice is once. Rejects
   * with the server's code when refused, and the topic is given up; with `CLOSED` (connection lost), and the topic is
   * asked for again when next welcomed; with `TIMEOUT` (no answer in 10 s), and it is asked for again within 30 s; with
   * `UNSUBSCRIBED`, by `unsubscribe` or by the server. It need not be awaited. A topic that was asked for before is given
   * up when the server forbids it; at any other refusal after a reconnect it is asked for again within 30 s.
   */
  subscribe(topic: string): Promise<Subscribed>
  /** The position of the topic is forgotten: a later `subscribe` starts afresh. */
  unsubscribe(topic: string): void
  /** False when not open, and then nothing is sent; true says no more than that the socket took it. */
  send(type: string, payload?: unknown): boolean
  send(bytes: Binary): boolean
  /**
   * Resolves with the payload of the `reply`. Rejects with the server's code, `CLOSED` (not open, or lost before the
   * answer), `TIMEOUT` (`timeout`: milliseconds, default 10,000) or `BUSY` (256 are unanswered).
   */
  request<Reply = unknown>(type: string, payload?: unknown, options?: { timeout?: number }): Promise<Reply>
  /** Closes for good. `code`: 1000 (default) or 3000–4999, `reason`: up to 123 bytes; RangeError for any other. */
  close(code?: number, reason?: string): void
}

/**
 * Connects, and stays connected until `close` or until the server closes with a code that forbids it.
 * `url`: ws, wss, http, https or relative to the page; a TypeError for any other, and where there is no WebSocket.
 */
export function connect<Messages extends object = Record<string, unknown>>(
  url: string | URL,
  options: ClientOptions = {},
): Client<Messages> {
  const WebSocket = options.WebSocket ?? globalThis.WebSocket
  if (!WebSocket) throw new TypeError('this runtime has no WebSocket: pass { WebSocket } from the package "ws"')
  return new PushClient(resolveUrl(url), { ...options, WebSocket })
}
