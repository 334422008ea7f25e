import { setTimeout as sleep } from 'node:timers/promises'
import type { Cluster, Redis } from 'ioredis'
import { within } from '../helpers/waiting.ts'
import { hashOf } from './client.ts'
import type { IngressKind } from './ingress.ts'
import type { Journal } from './journal.ts'
import type { Random } from './random.ts'
import { retentionOf, SMALL, TOPICS } from './topics.ts'

/** Milliseconds between two looks at what became of the requests. */
const LOOK = 50
const ANSWER = 2000
/** Requests that wait for their publication; while there are more, no other one is written. */
const MOST_OPEN = 40
/** Once publishing has ended there are no more faults: what is not published by then never will be. */
const ENDING = 45_000
const BULK_LIKE = new Set<string>([SMALL, 'channel:bulk'])
const LANE_TOPICS = TOPICS.filter(topic => !BULK_LIKE.has(topic))

/** A publication request, and the key that its publisher knows it by. */
export interface Request {
  k: string
  body: { to: string; [key: string]: unknown }
}

/** Where a queue took a request. */
export interface Taken {
  /** By which Redis knows it once it is published. */
  key: string
  /** What the queue keeps the order of; undefined where it keeps none. */
  sequence?: string
}

export interface QueueWriter {
  readonly kind: IngressKind
  /** Resolves when the queue has confirmed the request. Rejects when nobody knows whether it is there. */
  write(request: Request): Promise<Taken>
  close(): Promise<void> | void
}

interface LaneParts {
  redis: Redis | Cluster
  journal: Journal
  isStopping(): boolean
}

interface Open {
  k: string
  topic: string
  key: string
}

/**
 * Writes publication requests into a queue and looks up where they were recorded. What the queue confirmed is noted as
 * `queued`: the judge asks for all of it.
 */
export class IngressLane {
  readonly #writer: QueueWriter
  readonly #parts: LaneParts
  readonly #open = new Set<Open>()
  #isWriting = true

  constructor(writer: QueueWriter, parts: LaneParts) {
    this.#writer = writer
    this.#parts = parts
  }

  async run(random: Random, pace: number): Promise<void> {
    const looking = this.#look()
    for (let n = 0; !this.#parts.isStopping(); n++) {
      if (this.#open.size < MOST_OPEN) {
        await this.#request(`${this.#writer.kind}-${n}`, random.pick(LANE_TOPICS), random.index(200))
      }
      await sleep(pace * (0.5 + random.next()))
    }
    this.#isWriting = false
    await looking
    await this.#writer.close()
    this.#parts.redis.disconnect()
  }

  async #request(k: string, topic: string, bytes: number): Promise<void> {
    const queue = this.#writer.kind
    const payload = { k, pad: 'i'.repeat(bytes) }
    const about = { k, topic, lane: queue }
    this.#parts.journal.write({ e: 'try', ...about, h: hashOf(payload) })
    const body = { to: topic, type: 'n', payload, history: retentionOf(topic) }
    const taken = await this.#ask(() => this.#writer.write({ k, body }))
    // It may be there all the same.
    if (!taken) return
    const { key, sequence } = taken
    this.#parts.journal.write({ e: 'queued', ...about, queue, sequence })
    this.#open.add({ k, topic, key: `{push:${topic}}:once:ingress:${queue} ${key}` })
  }

  /** Until everything is published that was written, or never will be. */
  async #look(): Promise<void> {
    let deadline = Number.POSITIVE_INFINITY
    while (Date.now() < deadline && (this.#isWriting || this.#open.size > 0)) {
      if (!this.#isWriting) deadline = Math.min(deadline, Date.now() + ENDING)
      await this.#ask(() => Promise.all([...this.#open].map(open => this.#lookFor(open))))
      await sleep(LOOK)
    }
  }

  /** By what Redis remembers of its key. */
  async #lookFor(open: Open): Promise<void> {
    const { k, topic, key } = open
    const [id, seq] = await within(this.#parts.redis.hmget(key, 'id', 'seq'), 'an answer', ANSWER)
    if (!id) return
    this.#open.delete(open)
    this.#parts.journal.write({ e: 'ack', k, topic, lane: this.#writer.kind, id, seq: Number(seq) })
  }

  async #ask<T>(ask: () => Promise<T>): Promise<T | undefined> {
    try {
      return await ask()
    } catch (error) {
      this.#parts.journal.write({ e: 'fail', lane: this.#writer.kind, message: (error as Error).message })
      return undefined
    }
  }
}
