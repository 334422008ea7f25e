import { createHash } from 'node:crypto'
import { RareLine } from '../broker/rare-line.ts'
import type { Connection } from '../connection/connection.ts'
import type { Options } from '../options/options.ts'
import { CLIENT_KEY } from '../protocol/envelope.ts'
import { errors, isPushError, limitError, type PushError } from '../protocol/errors.ts'
import { type Topic, topicProblem } from '../protocol/topic.ts'
import type { Publisher } from '../publish/publish.ts'
import type { PublishResult } from '../publish/result.ts'
import { compilePayloadCheck, type PayloadCheck } from '../publish/schemas.ts'
import { authorizeAction } from './authorization.ts'
import { fieldsOf } from './fields.ts'
import type { Hub } from './hub.ts'

const MAX_KEY_LENGTH = 200

/** What a client wants to be published. */
interface Draft {
  topic: Topic
  type: string
  payload: unknown
  /** Whether it gets its own message like everybody else. */
  echo: boolean
  key: string | undefined
}

/** What the client is told about its publication. */
type Published = Pick<PublishResult, 'topic' | 'id' | 'seq'>

/** The publications of a type that a connection may make at present. */
interface Allowance {
  tokens: number
  refilled: number
}

/** Publishes what clients ask for: the types that the application names, where `publish` is granted, in their own name. */
export class ClientPublications {
  readonly #hub: Hub
  readonly #publisher: Publisher
  readonly #authorize: Options['callbacks']['authorize']
  readonly #types = new Map<string, { check: PayloadCheck; rate: number }>()
  /** Each publication costs as much as its topic has members: it is limited more strictly than messages are. */
  readonly #allowances = new WeakMap<Connection, Map<string, Allowance>>()
  readonly #failed: RareLine

  constructor(hub: Hub, options: Options, publisher: Publisher, failed: (error: unknown) => void) {
    this.#hub = hub
    this.#publisher = publisher
    this.#authorize = options.callbacks.authorize
    this.#failed = new RareLine(({ error }: { error?: unknown }) => failed(error))
    for (const [type, { schema, rate }] of Object.entries(options.clientPublications)) {
      this.#types.set(type, { check: compilePayloadCheck(`clientPublications["${type}"].schema`, schema), rate })
    }
  }

  /** What a message asks for. Throws when it is malformed, not allowed to anybody, or one too many. */
  read(connection: Connection, message: unknown): Draft {
    const fields = fieldsOf(message, ['topic', 'type', 'payload', 'echo', 'key'])
    const { topic, type, payload, echo = true, key } = fields
    const problem = topicProblem(topic)
    if (problem) throw new errors.TOPIC(`payload.topic: ${problem}`)
    if (typeof type !== 'string') throw new errors.BAD_MESSAGE('payload.type is not a string')
    if (typeof echo !== 'boolean') throw new errors.BAD_MESSAGE('payload.echo is neither true nor false')
    if (key !== undefined && !isKey(key)) {
      throw new errors.BAD_MESSAGE(`payload.key is not a string of 1 to ${MAX_KEY_LENGTH} characters`)
    }
    const known = this.#types.get(type)
    if (!known) throw new errors.FORBIDDEN(`clients may not publish ${JSON.stringify(type.slice(0, 128))}`)
    if (!this.#pay(connection, type, known.rate)) {
      const rate = `clientPublications["${type}"].rate`
      throw limitError('publications', `more than ${known.rate} publications of the type "${type}" a second (${rate})`)
    }
    const mismatch = known.check(payload === undefined ? {} : payload)
    if (mismatch) throw new errors.SCHEMA(mismatch)
    return { topic: topic as Topic, type, payload, echo, key }
  }

  /**
   * Publishes `draft` if the connection may. What is started first is published first: the broker keeps the order, so
   * that its `answer` need not be awaited before the next. No answer: the connection is being closed, or its turn is over.
   */
  async start(
    connection: Connection,
    draft: Draft,
    turn: { readonly isOver: boolean },
  ): Promise<{ answer?: Promise<Published | PushError> }> {
    const { topic } = draft
    if (connection.isClosing) return {}
    this.#requireTopic(connection, topic)
    await authorizeAction(this.#authorize, connection, topic, { action: 'publish' })
    // Whoever is told to leave while authorize() thinks, or that it took too long, publishes nothing more.
    if (connection.isClosing || turn.isOver) return {}
    this.#requireTopic(connection, topic)
    return { answer: this.#publish(connection, draft) }
  }

  #requireTopic(connection: Connection, topic: Topic): void {
    if (!this.#hub.registry.has(connection, topic)) {
      throw new errors.FORBIDDEN(`this connection does not have ${topic}: subscribe to it first`)
    }
  }

  async #publish(connection: Connection, { topic, type, payload, echo, key }: Draft): Promise<Published | PushError> {
    const { id: name, user } = connection
    const message = {
      type,
      payload,
      from: { user },
      ...(!echo && { except: `connection:${name}` }),
      ...(key !== undefined && { idempotencyKey: ownKey(connection, key) }),
    }
    try {
      const { id, seq } = await this.#publisher.publish(topic, message as never)
      this.#hub.metrics.count('client_publications_total')
      return { topic, ...(id !== undefined && { id, seq: seq! }) }
    } catch (error) {
      return this.#toTell(error)
    }
  }

  /** The error without what only operators may know, such as the address of Redis. Throws what must be hidden as a whole. */
  #toTell(error: unknown): PushError {
    if (!isPushError(error)) throw error
    if (error.statusCode < 500) return error
    const told = TOLD[error.code]
    if (!told) throw error
    this.#failed.tell({ error })
    return told()
  }

  #pay(connection: Connection, type: string, rate: number): boolean {
    const allowances = this.#allowances.get(connection) ?? new Map<string, Allowance>()
    this.#allowances.set(connection, allowances)
    const now = performance.now()
    const { tokens, refilled } = allowances.get(type) ?? { tokens: rate * 2, refilled: now }
    const present = Math.min(rate * 2, tokens + ((now - refilled) / 1000) * rate)
    const isPaid = present >= 1
    // What is refused costs nothing: a client that goes on for a moment is not locked out for longer.
    allowances.set(type, { tokens: isPaid ? present - 1 : present, refilled: now })
    return isPaid
  }
}

const TOLD: Record<string, () => PushError> = {
  PUSH_ERR_BROKER_AWAY: () => new errors.BROKER_AWAY('nothing was published: publish again later'),
  PUSH_ERR_UNCONFIRMED: () =>
    new errors.UNCONFIRMED('it may or may not have been published: with a key it is safe to publish again'),
  PUSH_ERR_BUSY: () => new errors.BUSY('nothing was published: too much is waiting to be published'),
  PUSH_ERR_CLOSED: () => new errors.CLOSED(),
}

function isKey(key: unknown): key is string {
  return typeof key === 'string' && key !== '' && key.length <= MAX_KEY_LENGTH
}

/**
 * A name for the publication that no other user can use, and that is forgotten after ten minutes: clients may use as many
 * as their rate allows. A digest, because a name of 200 bytes and a key of its own length would be too long together.
 */
function ownKey({ id, user }: Connection, key: string): string {
  const owner = user === null ? { connection: id } : { user }
  return `${CLIENT_KEY}${createHash('sha256')
    .update(JSON.stringify([owner, key]))
    .digest('base64url')}`
}
