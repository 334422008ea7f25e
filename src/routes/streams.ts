import type { FastifyBaseLogger, FastifyReply, FastifyRequest } from 'fastify'
import type { Connection } from '../connection/connection.ts'
import { StreamPositions } from '../connection/stream-positions.ts'
import { StreamTransport } from '../connection/stream-transport.ts'
import type { Hub } from '../node/hub.ts'
import type { Options } from '../options/options.ts'
import type { Sse } from '../options/sse.ts'
import { reasonOf } from '../protocol/errors.ts'
import { isId } from '../protocol/position.ts'
import { ownTopics, type Topic } from '../protocol/topic.ts'
import type { Admission } from './admission.ts'
import type { Arrival } from './stream-arrival.ts'
import { NO_POSITION } from './stream-request.ts'

interface StreamParts {
  hub: Hub
  options: Options
  admission: Admission
  sse: Sse
  log: FastifyBaseLogger
}

/** The client left, or never read the end: there is no word of it. */
const ABNORMAL = { code: 1006, reason: '' }

/** Milliseconds after which TCP asks an idle peer whether it is there. */
const KEEP_ALIVE = 60_000

const HEADERS = {
  'content-type': 'text/event-stream',
  // `no-transform`: a proxy that compresses holds messages back until it has a block of them.
  'cache-control': 'no-store, no-transform',
  'x-accel-buffering': 'no',
  'x-content-type-options': 'nosniff',
  // Who comes back over the same TCP connection comes to the same node, which may be draining. And a client that leaves a
  // stream may keep an idle connection for as long as `Keep-Alive` says it may.
  connection: 'close',
}

/** From a request that was let in to the end of its stream. */
export class Streams {
  readonly #parts: StreamParts

  constructor(parts: StreamParts) {
    this.#parts = parts
  }

  /** Makes a connection of the answer to `request`, which nobody else writes to any more. */
  begin(arrival: Arrival, request: FastifyRequest, reply: FastifyReply): void {
    const { hub, admission, sse, log } = this.#parts
    const { raw: response } = reply
    const { identity, topics, since, address } = arrival
    // Not the time for which the host lets a connection rest.
    request.raw.socket.setTimeout(0).setNoDelay(true).setKeepAlive(true, KEEP_ALIVE)
    response.on('error', error => log.debug({ err: error }, 'push: event stream error'))
    response.writeHead(200, { ...(reply.getHeaders() as Record<string, string>), ...HEADERS })
    // At once: a client that sees the headers and then nothing knows of a proxy that holds messages back.
    response.write(`retry: ${Math.round(sse.retry * (1 + Math.random()))}\n\n`)
    const positions = heldOf(since, [...ownTopics(identity.id, identity.user), ...topics])
    const transport = new StreamTransport(response, new StreamPositions(positions))
    const held = address === undefined ? undefined : admission.addresses.hold(address)
    const connection = hub.connect(identity, { transport }, topics, since)
    response.once('close', () => {
      if (held) held.connections--
      void this.#end(connection, transport.closed ?? ABNORMAL)
    })
    void this.#open(connection, arrival, request)
  }

  async #open(connection: Connection, { since, refusals }: Arrival, request: FastifyRequest): Promise<void> {
    const { hub, options, log } = this.#parts
    try {
      await hub.welcome(connection, since)
      for (const [topic, error] of refusals) {
        hub.metrics.count('messages_refused_total', 1, reasonOf(error))
        connection.send('error', { code: error.code, message: error.message, topic })
      }
      if (!connection.isClosing) await options.callbacks.onConnect?.(connection, request)
    } catch (error) {
      log.error({ err: error }, 'push: onConnect failed')
    }
  }

  async #end(connection: Connection, { code, reason }: { code: number; reason: string }): Promise<void> {
    const { hub, options, log } = this.#parts
    hub.disconnect(connection, code, reason)
    try {
      await options.callbacks.onDisconnect?.(connection, code, reason)
    } catch (error) {
      log.error({ err: error }, 'push: onDisconnect failed')
    }
  }
}

/**
 * What the client holds of the topics of the stream. A position that is none stays unknown until the gap is told: without an
 * entry, a stream that breaks before that would begin anew and say nothing.
 */
function heldOf(since: Arrival['since'], topics: readonly Topic[]): ReadonlyMap<Topic, string> {
  const held = new Map<Topic, string>()
  for (const topic of topics) {
    const id = since.get(topic)
    if (id !== undefined) held.set(topic, isId(id) ? id : NO_POSITION)
  }
  return held
}
