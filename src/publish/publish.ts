import { randomBytes } from 'node:crypto'
import type { Broker, Outgoing } from '../broker/broker.ts'
import { tracing } from '../broker/tracing.ts'
import { withForms } from '../protocol/binary.ts'
import { type Command, encodeControl, encodeEnvelope, isTarget } from '../protocol/envelope.ts'
import { errors, isPushError, type PushError } from '../protocol/errors.ts'
import { type Topic, topicKind, topicProblem } from '../protocol/topic.ts'
import { unknownKey } from '../protocol/unknown-keys.ts'
import type { HistoryRules } from './history-rules.ts'
import {
  checkFields,
  MAX_BATCH,
  messageKeys,
  type PublishedMessage,
  type PublishedType,
  type PublishOptions,
  type PublishRequest,
  requestKeys,
} from './request.ts'
import { Failed, type PublishFailure, type PublishResult, type Result, resultOf } from './result.ts'
import type { SchemaTable } from './schemas.ts'
import { type Tally, tracePublish } from './tally.ts'

export type { PublishFailure, PublishResult }

/**
 * One topic: resolves with a result or rejects. Many: resolves with a list in the same order; failed items have
 * `error`.
 */
export interface Publish {
  <T extends PublishedType>(topic: string, message: PublishedMessage<T>): Promise<PublishResult>
  <T extends PublishedType>(
    topics: readonly string[],
    message: PublishedMessage<T>,
  ): Promise<(PublishResult | PublishFailure)[]>
  (batch: readonly PublishRequest[]): Promise<(PublishResult | PublishFailure)[]>
}

/** The part of a broker that publishes: a script without Fastify has no more. */
export type PublishingBroker = Pick<Broker, 'publish'> & { readonly node?: string }

/** Every way to publish goes through this class: the same checks, the same results. */
export class Publisher {
  readonly #broker: PublishingBroker
  readonly #schemas: SchemaTable
  readonly #rules: HistoryRules
  readonly #maxBytes: number
  #mayPublish: (topic: Topic) => boolean = () => true
  #whyNot: (topic: Topic) => string = topic => `this key may not publish on ${topic}`
  #tally: Tally | undefined

  constructor(broker: PublishingBroker, schemas: SchemaTable, rules: HistoryRules, maxBytes: number) {
    this.#broker = broker
    this.#schemas = schemas
    this.#rules = rules
    this.#maxBytes = maxBytes
  }

  /** A publisher that may publish on some topics only. `whyNot`: what it says of others. */
  restrictedTo(mayPublish: (topic: Topic) => boolean, whyNot = this.#whyNot): Publisher {
    const restricted = new Publisher(this.#broker, this.#schemas, this.#rules, this.#maxBytes)
    restricted.#mayPublish = mayPublish
    restricted.#whyNot = whyNot
    restricted.#tally = this.#tally
    return restricted
  }

  /** A publisher that counts what it publishes. */
  countedBy(tally: Tally): Publisher {
    const counted = this.restrictedTo(this.#mayPublish)
    counted.#tally = tally
    return counted
  }

  readonly publish: Publish = (async (to: unknown, message?: unknown) => {
    if (typeof to === 'string') return this.#sendOne(this.#expand([to], message)[0]!)
    if (!Array.isArray(to)) throw new errors.TOPIC(topicProblem(to) ?? 'no topic was given')
    if (message !== undefined) return this.publishAll([{ ...(message as object), to }])
    return this.publishAll(to)
  }) as Publish

  /** Publishes up to 1,000 requests in one round trip. An item that fails does not stop the others. */
  async publishAll(requests: readonly unknown[]): Promise<(PublishResult | PublishFailure)[]> {
    const size = requests.reduce<number>((sum, request) => sum + sizeOf(request), 0)
    if (size > MAX_BATCH) {
      throw new errors.TOO_LARGE(`the batch has ${size} publications; at most ${MAX_BATCH} are taken at once`)
    }
    return this.#send(requests.flatMap(request => this.#draftsOf(request)))
  }

  /** Controls the connections of `target` on every node, and waits until the nodes have reported what they did. */
  async command(target: string, command: Command): Promise<PublishResult> {
    if (!isTarget(target)) {
      throw new errors.TOPIC(topicProblem(target) ?? `${JSON.stringify(target)} is neither user:ID nor connection:ID`)
    }
    const receipt = newToken()
    return this.#sendOne({ topic: target, envelope: encodeControl({ ...command, receipt }), receipt }, 'command')
  }

  #draftsOf(request: unknown): Draft[] {
    if (typeof request !== 'object' || request === null || Array.isArray(request)) {
      return [new Failed('', new errors.FIELD('a publication is an object such as {"to":"user:42","type":"notice"}'))]
    }
    const { to, ...message } = request as { to?: unknown }
    const topics = Array.isArray(to) ? to : [to]
    if (topics.length === 0) return [new Failed('', new errors.TOPIC('to is an empty list: name at least one topic'))]
    const unknown = unknownKey(request, requestKeys)
    return unknown
      ? topics.map(topic => new Failed(topic, new errors.UNKNOWN_KEY(unknown)))
      : this.#expand(topics, message)
  }

  /** One draft for each topic. They share the message, but each receipt has its own token. */
  #expand(topics: readonly unknown[], message: unknown): Draft[] {
    let written: Written | PushError | undefined
    return topics.map(topic => {
      try {
        const badTopic = topicProblem(topic)
        if (badTopic) throw new errors.TOPIC(badTopic)
        if (!this.#mayPublish(topic as Topic)) throw new errors.FORBIDDEN(this.#whyNot(topic as Topic))
        written ??= this.#write(message)
        if (isPushError(written)) throw written
        const recording = this.#recording(topic as Topic, message as PublishOptions)
        return { topic: topic as Topic, ...written(), ...recording }
      } catch (error) {
        if (!isPushError(error)) throw error
        return new Failed(topic, error)
      }
    })
  }

  /**
   * Checks and encodes the message, or returns what is wrong with it: once for all topics, because a large message
   * takes milliseconds.
   */
  #write(message: unknown): Written | PushError {
    const { receipt: wanted, ack, trace } = (message ?? {}) as PublishOptions
    const first = wanted || ack || trace ? newToken() : undefined
    try {
      const envelope = this.#envelope(message, first)
      if (first === undefined) return () => ({ envelope, receipt: undefined })
      // Only ack and ext follow the token, so the last match is the token, whatever the payload contains.
      const at = envelope.lastIndexOf(first)
      const [before, after] = [envelope.slice(0, at), envelope.slice(at + first.length)]
      return () => {
        const receipt = newToken()
        return { envelope: `${before}${receipt}${after}`, receipt, ...(trace && { trace }) }
      }
    } catch (error) {
      if (!isPushError(error)) throw error
      return error
    }
  }

  /** Whether and how the publication is recorded. Throws when its options contradict each other. */
  #recording(topic: Topic, { history, idempotencyKey }: PublishOptions): Pick<Outgoing, 'history' | 'idempotencyKey'> {
    const rule = history ?? this.#rules.of(topic)
    if (rule && topicKind(topic) === 'connection') {
      throw new errors.FIELD(`history: ${topic} is never recorded, because it ends with the connection`)
    }
    if (!rule && idempotencyKey !== undefined) {
      throw new errors.FIELD(`idempotencyKey: ${topic} is not recorded; give history, or a rule in the option history`)
    }
    return rule ? { history: rule, idempotencyKey } : {}
  }

  #envelope(message: unknown, token: string | undefined): string {
    if (typeof message !== 'object' || message === null || Array.isArray(message)) {
      throw new errors.FIELD('the message is not an object such as { type, payload }')
    }
    const unknown = unknownKey(message, messageKeys)
    if (unknown) throw new errors.UNKNOWN_KEY(unknown)
    const { type, payload, from, seq, except, ack, trace } = checkFields(message as Record<string, unknown>)
    const asked = { receipt: token, ack: ack || undefined, ext: trace ? { trace } : undefined }
    const envelope = encode({ type, payload, from, seq, except, ...asked })
    // Bytes as the nodes see them. Only now: what is a circle could not be encoded.
    const mismatch = this.#schemas.has(type) && this.#schemas.problem(type, withForms(payload))
    if (mismatch) throw new errors.SCHEMA(mismatch)
    const bytes = Buffer.byteLength(envelope)
    if (bytes > this.#maxBytes) {
      throw new errors.TOO_LARGE(`the publication has ${bytes} bytes; limits.publication allows ${this.#maxBytes}`)
    }
    return envelope
  }

  async #sendOne(draft: Draft, kind?: 'command'): Promise<PublishResult> {
    const [result] = await this.#send([draft], kind)
    if (result instanceof Failed) throw result.cause
    return result!
  }

  async #send(drafts: readonly Draft[], kind?: 'command'): Promise<Result[]> {
    const outgoing = drafts.filter(draft => !('error' in draft)) as Outgoing[]
    if (tracing.publish.hasSubscribers) tracePublish(outgoing)
    const begun = { node: this.#broker.node ?? 'publisher', at: Date.now() }
    const sent = outgoing.length > 0 ? await this.#broker.publish(outgoing) : []
    let next = 0
    const results = drafts.map(draft =>
      'error' in draft ? draft : resultOf(draft.topic, sent[next++]!, draft.trace ? begun : undefined),
    )
    this.#tally?.count(results, kind)
    return results
  }
}

/** How many publications a request asks for; counted before any of them is encoded. */
function sizeOf(request: unknown): number {
  const { to } = (request ?? {}) as { to?: unknown }
  return Array.isArray(to) ? Math.max(1, to.length) : 1
}

type Draft = Outgoing | Failed
/** Gives the message for one more topic, with a new token if it has one. */
type Written = () => Pick<Outgoing, 'envelope' | 'receipt' | 'trace'>
function encode(parts: Parameters<typeof encodeEnvelope>[0]): string {
  try {
    return encodeEnvelope(parts)
  } catch (cause) {
    throw new errors.FIELD(`payload cannot be written as JSON: ${(cause as Error).message}`, { cause })
  }
}

function newToken(): string {
  return randomBytes(12).toString('base64url')
}
