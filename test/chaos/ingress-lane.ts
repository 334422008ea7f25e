import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { hashOf } from './client.ts'
import type { Journal } from './journal.ts'
import type { Random } from './random.ts'
import { retentionOf, SMALL, TOPICS } from './topics.ts'

/** Milliseconds between two looks at what became of a request. */
const LOOK = 40
/** Once publishing has ended there are no more faults: what is not published by then never will be. */
const ENDING = 20_000
const BULK_LIKE = new Set<string>([SMALL, 'channel:bulk'])
const LANE_TOPICS = TOPICS.filter(topic => !BULK_LIKE.has(topic))

/**
 * Writes publication requests into the ingress stream, once each, and looks up where they were recorded. What XADD took
 * is noted as `queued`: the judge asks for all of it.
 */
export class IngressLane {
  readonly #redis: Redis
  readonly #journal: Journal
  readonly #isStopping: () => boolean

  constructor(url: string, journal: Journal, isStopping: () => boolean) {
    this.#redis = new Redis(url, {
      commandTimeout: 1500,
      maxRetriesPerRequest: 0,
      autoResendUnfulfilledCommands: false,
      retryStrategy: () => LOOK,
    })
    this.#redis.on('error', () => {})
    this.#journal = journal
    this.#isStopping = isStopping
  }

  async run(random: Random, pace: number): Promise<void> {
    for (let n = 0; !this.#isStopping(); n++) {
      await this.#request(`ingress-${n}`, random.pick(LANE_TOPICS), random.index(200))
      await sleep(pace * (0.5 + random.next()))
    }
    this.#redis.disconnect()
  }

  async #request(k: string, topic: string, bytes: number): Promise<void> {
    const payload = { k, pad: 'i'.repeat(bytes) }
    const about = { k, topic, lane: 'ingress' }
    this.#journal.write({ e: 'try', ...about, h: hashOf(payload) })
    const request = JSON.stringify({ to: topic, type: 'n', payload, history: retentionOf(topic) })
    const entry = await this.#ask(() => this.#redis.xadd('push:ingress', '*', 'body', request))
    // It may be there all the same. To write it again would be another request.
    if (entry === undefined) return
    this.#journal.write({ e: 'queued', ...about })
    const place = await this.#placeOf(`{push:${topic}}:once:ingress:streams ingress/${entry}`)
    if (place) this.#journal.write({ e: 'ack', ...about, ...place })
  }

  /** Where Redis recorded what has this key, by what it remembers of it. */
  async #placeOf(key: string): Promise<{ id: string; seq: number } | undefined> {
    let stoppedAt: number | undefined
    for (;;) {
      const known = await this.#ask(() => this.#redis.hmget(key, 'id', 'seq'))
      const [id, seq] = known ?? []
      if (id) return { id, seq: Number(seq) }
      if (this.#isStopping()) stoppedAt ??= Date.now()
      if (stoppedAt !== undefined && Date.now() - stoppedAt > ENDING) return undefined
      await sleep(LOOK)
    }
  }

  async #ask<T>(ask: () => Promise<T>): Promise<T | undefined> {
    try {
      return await ask()
    } catch (error) {
      this.#journal.write({ e: 'fail', lane: 'ingress', message: (error as Error).message })
      return undefined
    }
  }
}
