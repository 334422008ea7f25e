import type { Incoming } from '../broker/broker.ts'
import type { Connection } from '../connection/connection.ts'
import { type Extended, encodeExtended, frameBytes, writeFrame } from '../connection/frame.ts'
import { isExcepted } from '../connection/identity.ts'
import { Segment } from '../connection/queue.ts'
import { Group, type Registry } from '../connection/registry.ts'
import { Tail } from '../connection/tail.ts'
import type { WriteQueue } from '../connection/write-queue.ts'
import type { Metrics } from '../metrics.ts'
import type { Publication } from '../protocol/envelope.ts'
import type { Position } from '../protocol/position.ts'
import type { Topic } from '../protocol/topic.ts'
import type { Decoder, Plain } from './decoder.ts'

export type SkipReason = 'except' | 'closing' | 'slow'

export type Skipped = Partial<Record<SkipReason, number>>

interface FanOutParts {
  registry: Registry<Connection>
  writeQueue: Pick<WriteQueue, 'delivered'>
  decoder: Decoder
  metrics: Metrics
}

/** Small frames for few connections are copied to where these write from; others are shared as they stand. */
const FEW = 32
const SMALL_FRAME = 1024

/**
 * Gives publications to connections. Three ways, for speed alone: a small one for few connections is copied to where
 * they write from; neighbours on a topic that has many are given to these together, as one segment that they share;
 * everything else is a segment of its own.
 */
export class FanOut {
  readonly #parts: FanOutParts
  /** Publications on one topic, one right behind the other, that its connections have yet to be given. */
  #run: Segment | undefined
  #deliveries = 0

  constructor(parts: FanOutParts) {
    this.#parts = parts
  }

  /** A publication for every connection of its topic, about which nobody asks afterwards. */
  toAll(incoming: Incoming, taken: Plain | Publication): void {
    const { registry, decoder } = this.#parts
    const { topic, position } = incoming
    const audience = registry.audience(topic)
    if (audience === undefined && (topic !== 'all' || registry.size === 0)) return
    if (audience && taken.kind === 'plain' && !(audience instanceof Group && audience.size > FEW)) {
      const message = decoder.extended(incoming)
      const bytes = frameBytes(message)
      if (bytes <= SMALL_FRAME) return this.#toFew(audience, { topic, position, message, bytes })
    }
    const frame = decoder.frame(incoming, taken, true)
    const run = this.#run
    if (run?.topic === topic && run.extend(frame, position)) return
    this.endRun()
    this.#run = new Segment(frame, topic, { position })
  }

  #toFew(audience: Connection | Group<Connection>, small: Small): void {
    this.endRun()
    this.#parts.writeQueue.delivered(small.bytes)
    if (audience instanceof Group) this.#toGroup(audience, small)
    else this.#toOne(audience, small)
  }

  #toOne(connection: Connection, small: Small): void {
    const { topic } = small
    const tail = connection.tailFor(topic)
    if (tail?.canGrowFor(1) && addTo(tail, small)) {
      this.#deliveries++
      return
    }
    const next = connection.takesTail(topic) ? new Tail(1) : undefined
    if (next) addTo(next, small)
    if (next && connection.begin(next, topic)) {
      this.#deliveries++
      return
    }
    next?.giveBackUnheld()
    this.#give(connection, segmentOf(small))
  }

  #toGroup(group: Group<Connection>, small: Small): void {
    const { topic } = small
    const count = group.size
    const tail = group.tail?.canGrowFor(count) ? group.tail : tailOf(group, topic)
    group.tail = tail
    if (tail && addTo(tail, small)) {
      this.#deliveries += count
      return
    }
    const next = tail || areInStep(group, topic) ? new Tail(count) : undefined
    if (next) addTo(next, small)
    group.tail = next
    let segment: Segment | undefined
    for (const connection of group) {
      if (next && connection.begin(next, topic)) this.#deliveries++
      else {
        segment ??= segmentOf(small)
        this.#give(connection, segment)
      }
    }
    next?.giveBackUnheld()
  }

  /** Gives what has gathered to its connections: something else follows. */
  endRun(): void {
    const run = this.#run
    if (run === undefined) return
    this.#run = undefined
    this.#parts.writeQueue.delivered(run.bytes)
    for (const connection of this.#parts.registry.members(run.topic!)) this.#give(connection, run)
  }

  #give(connection: Connection, segment: Segment): void {
    const skip = connection.isClosing ? 'closing' : connection.give(segment) ? undefined : 'slow'
    if (skip) this.#parts.metrics.count('deliveries_skipped_total', segment.count, skip)
    else this.#deliveries += segment.count
  }

  /** A publication that goes to a choice of connections, or of which somebody is told where it went. */
  toSome(incoming: Incoming, publication: Publication): { reached: Connection[]; skipped: Skipped } {
    const { registry, writeQueue, decoder, metrics } = this.#parts
    const { topic, position } = incoming
    this.endRun()
    const segment = new Segment(decoder.frame(incoming, publication, true), topic, { position })
    writeQueue.delivered(segment.bytes)
    const skipped: Skipped = {}
    const reached: Connection[] = []
    for (const connection of registry.members(topic)) {
      const skip = skipReason(connection, publication.except) ?? (connection.give(segment) ? undefined : 'slow')
      if (skip) skipped[skip] = (skipped[skip] ?? 0) + 1
      else reached.push(connection)
    }
    this.#deliveries += reached.length
    for (const [reason, count] of Object.entries(skipped)) metrics.count('deliveries_skipped_total', count, reason)
    return { reached, skipped }
  }

  /** Counted once for many: the counters are looked up by name. */
  count(): void {
    if (this.#deliveries > 0) this.#parts.metrics.count('deliveries_total', this.#deliveries)
    this.#deliveries = 0
  }

  clear(): void {
    this.#run = undefined
  }
}

/** A publication that is small and plain, and how large its frame is. */
interface Small {
  topic: Topic
  position: Position | undefined
  message: Extended
  bytes: number
}

function segmentOf({ topic, position, message }: Small): Segment {
  return new Segment(encodeExtended(message), topic, { position })
}

/** False when there is no room for it. */
function addTo(tail: Tail, { topic, message, bytes }: Small): boolean {
  const at = tail.reserve(bytes, topic)
  if (at === undefined) return false
  writeFrame(tail.memory, at, message)
  return true
}

/** The tail that all of a group have, and nobody else. */
function tailOf(group: Group<Connection>, topic: Topic): Tail | undefined {
  let tail: Tail | undefined
  for (const connection of group) {
    if (tail === undefined) {
      tail = connection.tailFor(topic)
      if (!tail?.canGrowFor(group.size)) return undefined
    } else if (connection.tailFor(topic) !== tail) return undefined
  }
  return tail
}

/** Whether nothing waits for any of these connections, or the same was given to all, on this topic: more may follow. */
function areInStep(group: Group<Connection>, topic: Topic): boolean {
  let first: Connection | undefined
  for (const connection of group) {
    first ??= connection
    if (connection.last !== first.last) return false
  }
  return first?.last === undefined || first.last.topics[0] === topic
}

function skipReason(connection: Connection, except: readonly Topic[]): SkipReason | undefined {
  if (connection.isClosing) return 'closing'
  return isExcepted(connection, except) ? 'except' : undefined
}
