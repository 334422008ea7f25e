import type { Codec } from '../protocol/codecs/codec.ts'
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

/** How long a request may wait for a connection, and whether it may be sent twice. */
export interface QueueOptions {
  /** Milliseconds that it may wait to be sent, then `EXPIRED`. Default 60,000. */
  ttl?: number
  /**
   * True: if the connection is lost before the answer, it is sent again: at least once, so the handler must recognise a
   * repeat, for example by an id in the payload. Default false: it rejects with `UNCONFIRMED`, and is handled at most once.
   */
  repeat?: boolean
}

export interface RequestOptions {
  /** Milliseconds to wait for the answer, once it was sent. Default 10,000. */
  timeout?: number
  /**
   * Keeps the request while the client is not connected, in memory alone, and sends what waited in order, each when the one
   * before is answered. Default false: it rejects with `CLOSED`.
   */
  queue?: boolean | QueueOptions
}

/** Positions as they are kept: `user` is whose they are. */
export interface KeptPositions {
  user?: string | null
  positions: Record<string, string>
}

/** Where positions are kept beyond the life of a page. What it throws is an `error` with code `POSITIONS`. */
export interface PositionStore {
  /** What `save` was given last, or nothing. Called once, at the beginning. */
  load(): KeptPositions | null | undefined
  /** At most once a second, and when the page is hidden or ends. */
  save(kept: KeptPositions): void
}

export interface ClientPublishOptions extends RequestOptions {
  /** False: this client does not get its own message. Default true. */
  echo?: boolean
  /** Names the publication on a recorded topic, so that publishing it again does not repeat it: `crypto.randomUUID()`. */
  key?: string
}

export type Subscribed = TopicState & { topic: string; presence?: PresenceMessage | null }

export type Binary = ArrayBuffer | ArrayBufferView | Blob

/** The part of a WebSocket that is used. Those of browsers, of Node (22 and later) and of `ws` have it. */
export interface WebSocketLike {
  binaryType: string
  readonly readyState: number
  /** The subprotocol that the server selected. Used with the option `codec` alone. */
  readonly protocol?: string
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
   * Keeps the positions of recorded topics, so that the page goes on where it was when it is loaded again: `'session'` in
   * `sessionStorage`, under the origin and path of `url`, for this tab; or a store of your own. Up to 200 topics. Those of
   * another user are dropped. What `since` says comes first. Default: they are not kept.
   */
  positions?: 'session' | PositionStore
  /** Bounds of all requests with `queue` that are not answered: how many (default 100), and bytes of JSON (262,144). */
  queue?: { limit?: number; bytes?: number }
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
  /**
   * Speaks something else than JSON, if the server does: `msgpack` of `fastify-push-bridge/client/msgpack`, or `protobuf` of
   * `fastify-push-bridge/client/protobuf`. Bytes in payloads are then `Uint8Array` in both directions.
   */
  codec?: Codec
  /** Default: the built-in one. Node 20 has none: pass `(await import('ws')).WebSocket` of the package `ws`. */
  WebSocket?: new (
    url: string,
    protocols?: string[],
  ) => WebSocketLike
}
