import type { From, TopicState } from '../protocol/messages.ts'
import type { PresenceMessage } from '../protocol/presence.ts'

/** `waiting`: between two attempts. `open`: welcomed by the server. `closed`: for good; `connect` makes a new one. */
export type ClientState = 'connecting' | 'open' | 'waiting' | 'closed'

/**
 * A message for the application. `topic` is absent if the server sent it to this connection alone; `from` is the server's
 * word for who published it.
 */
export type PublishedMessage<T = unknown> = {
  type: string
  payload: T
  topic?: string
  seq?: number
  id?: string
  from?: From
}

/** What the server says of a publication of this client: `id` and `seq` if it is recorded. */
export type Published = { topic: string; id?: string; seq?: number }

export interface ClientPublishOptions {
  /** False: this client does not get its own message. Default true. */
  echo?: boolean
  /** Names the publication on a recorded topic, so that publishing it again does not repeat it: `crypto.randomUUID()`. */
  key?: string
  /** Milliseconds to wait for the answer. Default 10,000. */
  timeout?: number
}

export type Subscribed = TopicState & { topic: string; presence?: PresenceMessage | null }

export type Binary = ArrayBuffer | ArrayBufferView | Blob

/** The part of a WebSocket that is used. Those of browsers, of Node (22 and later) and of `ws` have it. */
export interface WebSocketLike {
  binaryType: string
  readonly readyState: number
  /** Used with the option `authenticate` alone. */
  onopen?: ((event: never) => unknown) | null
  onmessage: ((event: never) => unknown) | null
  onclose: ((event: never) => unknown) | null
  onerror: ((event: never) => unknown) | null
  send(data: string | Binary): void
  close(code?: number, reason?: string): void
}

export interface ClientOptions {
  /** Topics to subscribe to from the start, as with `subscribe`. */
  topics?: readonly string[]
  /**
   * The `positions` of an earlier client: a page that was reloaded first gets what it missed, or a `gap`. Only for the
   * same user: delete them when somebody else logs in.
   */
  since?: Readonly<Record<string, string>> | null | undefined
  /**
   * Called for every attempt, because a ticket can be used once; also before the identity of the last one expires, if the
   * server asks. A failure is an `error` and a failed attempt, and the client keeps trying: `close` it when the session is
   * over.
   */
  ticket?: () => Promise<string>
  /**
   * Instead of `ticket`, if nothing may be in the URL: what the first message says, such as `{ ticket }` or `{ token }`.
   * Called as `ticket` is. The server must take it: `authenticate: 'message'`.
   */
  authenticate?: () => object | Promise<object>
  /**
   * After three WebSockets without an answer the client takes an event stream, if the server has the option `sse`. A
   * WebSocket is tried again after a minute, then ever more rarely, and takes over when it works. Over a stream nothing can be
   * sent: `request` and `publish` reject with `SSE`, `send` returns false, rosters are not kept. `true`: the stream is at
   * `/-/events` below the URL, which must not name a channel then; or its URL. Default: false.
   */
  fallback?: boolean | string
  /** Default: the built-in one. Node 20 has none: pass `(await import('ws')).WebSocket` of the package `ws`. */
  WebSocket?: new (
    url: string,
  ) => WebSocketLike
}
