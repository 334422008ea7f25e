import type { Incoming } from '../broker/broker.ts'
import type { Metrics } from '../broker/metrics.ts'
import type { Connection } from '../connection/connection.ts'
import { type Extended, encodeExtended, frameBytes, writeFrame } from '../connection/frame.ts'
import { isExcepted } from '../connection/identity.ts'
import { Segment } from '../connection/queue.ts'
import { Group, type Registry } from '../connection/registry.ts'
import { Tail } from '../connection/tail.ts'
import type { WriteQueue } from '../connection/write-queue.ts'
import type { Decoded, Publication } from '../protocol/envelope.ts'
import type { Position } from '../protocol/position.ts'
import type { Topic } from '../protocol/topic.ts'
import type { Decoder, Plain } from './decoder.ts'
import { RecentPublications } from './recent.ts'

/** `overload`: the connection is being brought up to date, and what waits for the end of that is too much already. */
type SkipReason = 'except' | 'closing' | 'slow' | 'overload'

export type Skipped = Partial<Record<SkipReason, number>>

/** The parts of the node that a fan-out uses. */
export interface FanOutParts {
  registry: Registry<Connection>
  writeQueue: Pick<WriteQueue, 'delivered'>
  decoder: Decoder
  metrics: Metrics
}

/** For up to this many connections, frames of up to this many bytes are copied into their tails; others are shared. */
const FEW = 32
const SMALL_FRAME = 1024

/**
 * Queues publications for connections, in one of three ways that differ only in speed: a small publication for few
 * connections is copied into their tail; successive publications on a topic with many are queued together, as one shared
 * segment; any other becomes a segment of its own.
 */
export class FanOut {
  readonly recent = new RecentPublications()
  readonly #parts: FanOutParts
  /** Successive publications on one topic that are still to be queued for its connections. */
  #run: Segment | undefined
  /** Groups that remember a tail. */
  #grouped: Group<Connection>[] = []
  #deliveries = 0

  constructor(parts: FanOutParts) {
    this.#parts = parts
  }

  /** A publication for all connections of its topic, without a receipt. */
  toAll(incoming: Incoming, taken: Plain | Publication): void {
    const { registry, decoder } = this.#parts
    const { topic, position } = incoming
    const audience = registry.audience(topic)
    if (audience === undefined && (topic !== 'all' || registry.size === 0)) return void this.#note(incoming, taken)
    if (audience && taken.kind === 'plain' && !(audience instanceof Group && audience.size > FEW)) {
      const message = decoder.extended(incoming)
      const bytes = frameBytes(message)
      if (bytes <= SMALL_FRAME) {
        this.endRun()
        return this.#toFew(audience, { topic, position, message, bytes }, this.#note(incoming, taken))
      }
    }
    const frame = decoder.frame(incoming, taken, true)
    const run = this.#run
    if (run?.topic === topic && run.extend(frame, position)) return void this.#note(incoming, taken)
    this.endRun()
    this.#note(incoming, taken)
    this.#run = new Segment(frame, topic, { position })
  }

  /** Remembers it for whoever misses it. */
  #note({ topic, position }: Incoming, taken: Plain | Publication): number {
    return this.recent.note(topic, taken.kind === 'plain' ? this.#parts.decoder.plainType : taken.type, position?.id)
  }

  #toFew(audience: Connection | Group<Connection>, small: Small, index: number): void {
    this.#parts.writeQueue.delivered(small.bytes)
    const before = this.#deliveries
    if (audience instanceof Group) this.#toGroup(audience, small, index)
    else this.#toOne(audience, small, index)
    this.recent.reached(index, this.#deliveries - before)
  }

  #toOne(connection: Connection, small: Small, index: number): void {
    const { topic } = small
    const last = connection.tailFor(topic)
    const tail = last?.canGrowFor(1) ? last : undefined
    if (tail && addTo(tail, small)) {
      this.#deliveries++
      return
    }
    // A full tail is written as it is. In a queue with another one, its bytes would be copied, and its memory lost.
    if (tail) connection.writeOut()
    const next = connection.takesTail(topic) ? Tail.begin() : undefined
    if (next) addTo(next, small)
    if (next && connection.begin(next, topic)) {
      this.#deliveries++
      return
    }
    next?.giveBackUnheld()
    this.#noteSkip(index, this.#give(connection, segmentOf(small)))
  }

  #noteSkip(index: number, skip: SkipReason | undefined): void {
    if (skip) this.recent.skipped(index, skip)
  }

  #toGroup(group: Group<Connection>, small: Small, index: number): void {
    const { topic } = small
    const count = group.size
    const tail = group.tail?.canGrowFor(count) ? group.tail : tailOf(group, topic)
    this.#remember(group, tail)
    if (tail && addTo(tail, small)) {
      this.#deliveries += count
      return
    }
    if (tail) for (const connection of group) connection.writeOut()
    const next = tail || areInStep(group, topic) ? Tail.begin() : undefined
    if (next) addTo(next, small)
    this.#remember(group, next)
    let segment: Segment | undefined
    for (const connection of group) {
      if (next && connection.begin(next, topic)) this.#deliveries++
      else {
        segment ??= segmentOf(small)
        this.#noteSkip(index, this.#give(connection, segment))
      }
    }
    next?.giveBackUnheld()
  }

  #remember(group: Group<Connection>, tail: Tail | undefined): void {
    if (tail && !group.tail) this.#grouped.push(group)
    group.tail = tail
  }

  /** A tail that is written has memory of many kilobytes, which a group that gets nothing more would keep. */
  #forgetTails(): void {
    if (this.#grouped.length === 0) return
    for (const group of this.#grouped) group.tail = undefined
    this.#grouped = []
  }

  /** Queues the run for its connections, since something else follows. */
  endRun(): void {
    const run = this.#run
    if (run === undefined) return
    this.#run = undefined
    this.#parts.writeQueue.delivered(run.bytes)
    const done = { reached: 0, closing: 0, slow: 0, overload: 0 }
    for (const connection of this.#parts.registry.members(run.topic!)) {
      const skip = this.#give(connection, run)
      if (skip === undefined) done.reached++
      else done[skip]++
    }
    this.recent.ended(run.topic!, run.count, done)
  }

  #give(connection: Connection, segment: Segment): 'closing' | 'slow' | 'overload' | undefined {
    const skip = connection.isClosing
      ? 'closing'
      : connection.give(segment)
        ? undefined
        : this.#refused(connection, segment)
    if (skip) this.#parts.metrics.count('deliveries_skipped_total', segment.count, skip)
    else this.#deliveries += segment.count
    return skip
  }

  /** Why there was no room for `segment`. What a connection that is too slow loses, it counts itself. */
  #refused({ barriers }: Connection, { topic, count }: Segment): 'slow' | 'overload' {
    if (!barriers?.get(topic!)?.isClosed) return 'slow'
    this.#parts.metrics.count('messages_dropped_total', count, 'overload')
    return 'overload'
  }

  /** A publication with `except` or a receipt. */
  toSome(incoming: Incoming, publication: Publication): { reached: Connection[]; skipped: Skipped } {
    const { registry, writeQueue, decoder, metrics } = this.#parts
    const { topic, position } = incoming
    this.endRun()
    const segment = new Segment(decoder.frame(incoming, publication, true), topic, { position })
    writeQueue.delivered(segment.bytes)
    const index = this.#note(incoming, publication)
    const skipped: Skipped = {}
    const reached: Connection[] = []
    for (const connection of registry.members(topic)) {
      let skip = skipReason(connection, publication.except)
      if (!skip && !connection.give(segment)) skip = this.#refused(connection, segment)
      if (skip) skipped[skip] = (skipped[skip] ?? 0) + 1
      else reached.push(connection)
    }
    this.#deliveries += reached.length
    this.recent.reached(index, reached.length)
    for (const [reason, count] of Object.entries(skipped)) {
      metrics.count('deliveries_skipped_total', count, reason)
      this.recent.skipped(index, reason as SkipReason, count)
    }
    return { reached, skipped }
  }

  /** What is done once for all publications of a turn: each count looks up its counter by name. */
  endTurn(): void {
    this.#forgetTails()
    if (this.#deliveries > 0) this.#parts.metrics.count('deliveries_total', this.#deliveries)
    this.#deliveries = 0
  }

  clear(): void {
    this.#run = undefined
    this.#forgetTails()
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

/** False when there is no room. */
function addTo(tail: Tail, { topic, position, message, bytes }: Small): boolean {
  const at = tail.reserve(bytes, topic, position)
  if (at === undefined) return false
  writeFrame(tail.memory, at, message)
  return true
}

/** The tail that exactly the connections of this group have. */
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

/** Whether nothing waits for these connections, or all were last given the same on this topic: more may follow. */
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

/** Whether it goes to all connections of its topic, and nobody waits for an answer. */
export function isForAll(decoded: Decoded): decoded is Publication {
  return decoded.kind === 'publication' && decoded.except.length === 0 && decoded.receipt === undefined
}
