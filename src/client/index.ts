import type { Authenticated, Gap, Welcome } from '../protocol/messages.ts'
import { ClientError } from './handlers.ts'
import type {
  Binary,
  ClientOptions,
  ClientPublishOptions,
  ClientState,
  Published,
  PublishedMessage,
  Subscribed,
  WebSocketLike,
} from './options.ts'
import { resolveUrl } from './page.ts'
import type { Roster, RosterChange } from './roster.ts'
import { PushClient } from './session.ts'

export type { Member } from '../protocol/presence.ts'
export type {
  Authenticated,
  ClientOptions,
  ClientPublishOptions,
  ClientState,
  Published,
  PublishedMessage,
  Roster,
  RosterChange,
  Subscribed,
  WebSocketLike,
}
export { ClientError }

/** The events of `listen`. They concern the client itself; published messages go to `on`. */
export interface ClientEvents {
  /** `code` and `reason`: why the connection ended; `delay`: milliseconds until the next attempt. */
  state: { state: ClientState; code?: number; reason?: string; delay?: number }
  /** On every connection. `topics`: those that it has without subscribing, with `recovered` as in `subscribed`. */
  welcome: Welcome
  /**
   * The server's answer for a topic, also after every reconnect. `recovered` is about the messages since the last one
   * that this client received. True: they follow, in order and once. False: not all of them can follow, and a `gap`
   * says so. Absent: this client had received none, or the server does not know yet.
   */
  subscribed: Subscribed
  /**
   * Messages were or may have been missed: fetch again what the page shows of these topics. The first one is logged if
   * nobody listens.
   */
  gap: Gap
  /** A failure that no promise reports, and every refused topic. Logged to the console if nobody listens. */
  error: ClientError
  /**
   * Three attempts in a row got no answer; the client keeps trying. `message`: what to check. Logged if nobody listens.
   */
  unreachable: { attempts: number; message: string }
  /** The server sent `data`, which is not a message of the protocol. The first one is logged if nobody listens. */
  invalid: { data: string }
  binary: ArrayBuffer
  /**
   * The identity ends at this time, in milliseconds since 1970. With the option `ticket` or `authenticate` the client asks
   * for a new one by itself; else call `authenticate`, or the connection is closed and opened again.
   */
  expiring: { expires: number }
  /** The server will close this connection; the next attempt follows `after` milliseconds later. */
  reconnect: { after: number }
}

/** `Messages` maps types to payloads: `connect<{ 'order.created': Order }>('/ws')`. */
export interface Client<Messages extends object = Record<string, unknown>> {
  readonly state: ClientState
  /** How messages come: `sse` only with the option `fallback`. Undefined if the client is not open. */
  readonly transport: 'websocket' | 'sse' | undefined
  /** The last welcome of the server. */
  readonly welcome: Welcome | undefined
  /**
   * The id of the last message of each recorded topic, also when closed: JSON to keep for the option `since`. A message
   * counts as soon as its handlers are called. Topics of the option `since` that are not subscribed yet are included.
   */
  readonly positions: Readonly<Record<string, string>>
  /**
   * Calls `handler` for every message of a type, or of all types with `'*'`. Returns a function that stops it. Register
   * before subscribing, because missed messages follow at once. A handler that throws or rejects causes an `error` with
   * code `HANDLER`. If the publisher asked for it, a message is acknowledged when all its handlers have succeeded, and
   * not if it has none.
   */
  on<Type extends keyof Messages & string>(
    type: Type,
    handler: (payload: Messages[Type], message: PublishedMessage<Messages[Type]>) => unknown,
  ): () => void
  on(type: '*', handler: (payload: unknown, message: PublishedMessage) => unknown): () => void
  /** Calls `handler` for every such event. Returns a function that stops it. */
  listen<Event extends keyof ClientEvents>(event: Event, handler: (detail: ClientEvents[Event]) => unknown): () => void
  /**
   * Subscribes now or after the next welcome, and again after every reconnect, when missed messages follow. A second
   * call for the same topic changes nothing. The promise need not be awaited. It rejects
   * - with the server's code if the topic is refused: the client gives it up;
   * - with `CLOSED` if the connection is lost: the client subscribes after the next welcome;
   * - with `TIMEOUT` without an answer in 10 s: the client tries again within 30 s;
   * - with `UNSUBSCRIBED` after `unsubscribe`, or if the server unsubscribes the topic.
   *
   * After a reconnect the client gives up a topic only if the server forbids it; after any other refusal it tries again
   * within 30 s.
   *
   * `last`: the newest so many messages of a recorded topic, up to 100, come first. Not if this client has had a message
   * of the topic: then it goes on where it was.
   */
  subscribe(topic: string, options?: { last?: number }): Promise<Subscribed>
  /**
   * Who is on the topic, kept up to date: `client.presence('channel:room.1').members`. Subscribes the topic, and asks again
   * after every reconnect. The server must grant `presence` on the topic. `unsubscribe` ends it.
   */
  presence(topic: string): Roster
  /** Also forgets the position of the topic: a later `subscribe` recovers nothing. */
  unsubscribe(topic: string): void
  /** False if the client is not open: nothing is sent. True means only that the socket accepted it. */
  send(type: string, payload?: unknown): boolean
  send(bytes: Binary): boolean
  /**
   * Resolves with the payload of the `reply`. Rejects with the server's code, `CLOSED` (not open, or lost before the
   * answer), `TIMEOUT` (`timeout`: milliseconds, default 10,000) or `BUSY` (256 requests are unanswered).
   */
  request<Reply = unknown>(type: string, payload?: unknown, options?: { timeout?: number }): Promise<Reply>
  /**
   * Publishes to everybody on a topic that this client has, if the server allows it. The promise need not be awaited. It
   * rejects as that of `request` does; with a `key` it is safe to publish again.
   */
  publish(topic: string, type: string, payload?: unknown, options?: ClientPublishOptions): Promise<Published>
  /**
   * Replaces the identity of this connection: `{ ticket }`, or what the server takes. Resolves with what it leaves. Rejects
   * as `request` does: the old identity then goes on until it ends.
   */
  authenticate(payload: object): Promise<Authenticated>
  /** Closes for good. `code`: 1000 (default) or 3000–4999. `reason`: at most 123 bytes. Else throws a RangeError. */
  close(code?: number, reason?: string): void
}

/**
 * Connects, and reconnects until `close` is called or the server closes with a code that forbids it.
 * `url`: ws, wss, http, https or relative to the page. Throws a TypeError for any other, and if there is no WebSocket.
 */
export function connect<Messages extends object = Record<string, unknown>>(
  url: string | URL,
  options: ClientOptions = {},
): Client<Messages> {
  const WebSocket = options.WebSocket ?? globalThis.WebSocket
  if (!WebSocket) {
    throw new TypeError(
      'this runtime has no WebSocket (Node has one from version 22 on): npm install ws, then ' +
        'connect(url, { WebSocket: (await import("ws")).WebSocket })',
    )
  }
  return new PushClient(resolveUrl(url), { ...options, WebSocket })
}
