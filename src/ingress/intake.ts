import { createHash } from 'node:crypto'
import type { FastifyBaseLogger } from 'fastify'
import type { Metrics } from '../broker/metrics.ts'
import { RareLine } from '../broker/rare-line.ts'
import { isTransient } from '../broker/waiting.ts'
import { errors, isPushError } from '../protocol/errors.ts'
import { isTopic, matchesPattern } from '../protocol/topic.ts'
import { unknownKey } from '../protocol/unknown-keys.ts'
import type { HistoryRules } from '../publish/history-rules.ts'
import type { Publisher } from '../publish/publish.ts'
import { Failed, type Result } from '../publish/result.ts'

/** What became of a message, and so what its queue is to do with it. */
export type Verdict =
  /** Acknowledge it. `isDuplicate`: all of it had been published before. */
  | { outcome: 'published'; isDuplicate: boolean }
  /** It will never be right: a dead letter, at once. */
  | { outcome: 'refused'; code: string; message: string }
  /**
   * Try it again later. `isTemporary`: Redis is away or overloaded, which says nothing about the message: do not count
   * the try, or an outage makes dead letters of all that waits.
   */
  | { outcome: 'failed'; code: string; message: string; isTemporary: boolean }

export interface IntakeParts {
  /** The name of the road. */
  name: string
  /** The patterns of the topics on which it may publish. */
  topics: readonly string[]
  /** Counts what it publishes. */
  publisher: Publisher
  /** The option `history`: which topics are recorded. */
  rules: HistoryRules
  /** The limit on one publication, in bytes. */
  maxBytes: number
  metrics: Metrics
  log: Pick<FastifyBaseLogger, 'warn'>
}

/** Room in a body for what is around the payload: topics, and characters that JSON escapes. */
const BODY_ROOM = 4

const MAX_KEY_BYTES = 200

/** Those of `POST /push` but for what asks for an answer: nobody waits for one. */
const KEYS = ['to', 'type', 'payload', 'from', 'seq', 'except', 'history', 'idempotencyKey'] as const

const decoder = new TextDecoder('utf-8', { fatal: true })

type Request = Record<string, unknown> & { to: unknown; history?: unknown }

/** From the body of a message in a queue to a verdict: checks, publishes, counts. One for each road. */
export class Intake {
  readonly #parts: IntakeParts
  readonly #publisher: Publisher
  readonly #refused: RareLine
  #dead = 0

  constructor(parts: IntakeParts) {
    const { name, topics, publisher, log, metrics } = parts
    this.#parts = parts
    this.#publisher = publisher.restrictedTo(
      topic => topics.some(pattern => matchesPattern(pattern, topic)),
      topic => `${name} may not publish on ${topic}: its option topics does not cover it`,
    )
    this.#refused = new RareLine((fields, more) =>
      log.warn({ ingress: name, ...fields, more }, 'push: a message of an ingress was refused, or a part of it'),
    )
    metrics.follow('ingress_dead_letters_total', () => this.#dead, name)
  }

  /**
   * Publishes the request that `body` is. `key`: unique for the delivery (stream and id, partition and offset, message
   * id), and the same when it is delivered again: on recorded topics clients then see it once. Never rejects.
   */
  async take(body: Uint8Array | string, key: string): Promise<Verdict> {
    const { name, metrics } = this.#parts
    metrics.count('ingress_taken_total', 1, name)
    const verdict = await this.#judge(body, key).catch(verdictOn)
    metrics.count(`ingress_${verdict.outcome}_total`, 1, name)
    if (verdict.outcome === 'refused') this.#refused.tell({ key, code: verdict.code, reason: verdict.message })
    return verdict
  }

  /** A road has put this many messages among its dead letters. */
  countDeadLetters(by = 1): void {
    this.#dead += by
  }

  /** So many messages are gone from the queue, and nobody had published them. */
  countLost(by: number): void {
    const { name, metrics } = this.#parts
    metrics.count('ingress_lost_total', by, name)
  }

  async #judge(body: Uint8Array | string, key: string): Promise<Verdict> {
    const request = parse(body, this.#parts.maxBytes * BODY_ROOM)
    const results = await this.#publisher.publishAll(this.#split(request, key))
    const failures = results.filter(result => result instanceof Failed)
    const [failed] = failures.filter(it => !isFinal(it))
    // All of it again: what is recorded is recognised, and at least once is what is promised for the rest.
    if (failed) return verdictOn(failed.cause)
    if (failures.length === results.length) return verdictOn(failures[0]!.cause)
    for (const { topic, error } of failures) this.#refused.tell({ key, topic, code: error.code, reason: error.message })
    const published = results.filter(result => !(result instanceof Failed)) as Exclude<Result, Failed>[]
    return { outcome: 'published', isDuplicate: published.every(({ duplicate }) => duplicate === true) }
  }

  /** Recorded topics get a key, and the others none: the publisher would refuse it there. */
  #split(request: Request, key: string): Request[] {
    if (request.idempotencyKey !== undefined) return [request]
    const topics = Array.isArray(request.to) ? request.to : [request.to]
    const isRecorded = (topic: unknown) =>
      request.history !== undefined || (isTopic(topic) && this.#parts.rules.of(topic) !== undefined)
    const recorded = topics.filter(isRecorded)
    if (recorded.length === 0) return [request]
    const keyed = { ...request, to: recorded, idempotencyKey: this.#keyOf(key) }
    const others = topics.filter(topic => !isRecorded(topic))
    return others.length > 0 ? [keyed, { ...request, to: others }] : [keyed]
  }

  /** Two roads may have messages with the same number, and publishers have keys of their own. */
  #keyOf(key: string): string {
    const whole = `ingress:${this.#parts.name} ${key}`
    if (Buffer.byteLength(whole) <= MAX_KEY_BYTES) return whole
    return createHash('sha256').update(whole).digest('base64url')
  }
}

function parse(body: Uint8Array | string, maxBytes: number): Request {
  const bytes = typeof body === 'string' ? Buffer.byteLength(body) : body.byteLength
  // Before it is parsed, which would hold up this node for as long as it takes.
  if (bytes > maxBytes) throw new errors.TOO_LARGE(`the body has ${bytes} bytes; at most ${maxBytes} are taken`)
  const request = parseJson(body)
  if (typeof request !== 'object' || request === null || Array.isArray(request)) {
    throw new errors.FIELD('a publication request is an object such as {"to":"user:42","type":"notice"}')
  }
  const unknown = unknownKey(request, KEYS)
  if (unknown) throw new errors.UNKNOWN_KEY(unknown)
  return request as Request
}

function parseJson(body: Uint8Array | string): unknown {
  try {
    return JSON.parse(typeof body === 'string' ? body : decoder.decode(body))
  } catch (cause) {
    // Without what the parser quotes: it is a part of the body.
    const problem = cause instanceof SyntaxError ? 'the body is broken JSON' : 'the body is not UTF-8'
    throw new errors.JSON(`${problem}: write {"to":"user:42","type":"notice","payload":{}}`, { cause })
  }
}

/** Whether it would be refused again, however often it is tried. */
function isFinal({ cause: { statusCode } }: Failed): boolean {
  return statusCode < 500 && statusCode !== 429
}

function verdictOn(error: unknown): Verdict {
  if (!isPushError(error)) {
    return { outcome: 'failed', code: 'PUSH_ERR_INTERNAL', message: 'the bridge failed', isTemporary: false }
  }
  const { code, message } = error
  if (isFinal(new Failed('', error))) return { outcome: 'refused', code, message }
  return { outcome: 'failed', code, message, isTemporary: isTransient(error) || code === 'PUSH_ERR_CLOSED' }
}
