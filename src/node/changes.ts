import type { Connection } from '../connection/connection.ts'
import type { Options } from '../options/options.ts'
import { errors, isPushError, type PushError } from '../protocol/errors.ts'
import type { ClientMessage, Ref } from '../protocol/messages.ts'
import { lastProblem } from '../protocol/position.ts'
import { type Topic, topicProblem } from '../protocol/topic.ts'
import type { Publisher } from '../publish/publish.ts'
import { authorizeAction, authorizeSubscribe } from './authorization.ts'
import { ClientPublications } from './client-publications.ts'
import { fieldsOf } from './fields.ts'
import type { Hub, Wanted } from './hub.ts'
import { Renewals } from './renewals.ts'
import type { Turn } from './turn.ts'

/** Whose messages these are. */
export interface Asker {
  readonly connection: Connection
  /** The last change that it asked for: they take effect in order of arrival. */
  lastChange: Promise<unknown>
}

interface ChangesEvents {
  failed(error: unknown): void
  refused(connection: Connection, error: PushError, ref: Ref | undefined): void
}

/** The client has been told already, and the topic is not joined. */
const TOO_LATE = new errors.TIMEOUT('authorize() took longer than limits.handlerTime')

const TYPES = new Set(['subscribe', 'unsubscribe', 'push.publish', 'authenticate'])

/** What clients ask of the node itself: their topics, their publications, their identity. One after the other. */
export class Changes {
  readonly #hub: Hub
  readonly #options: Options
  readonly #publications: ClientPublications
  readonly #renewals: Renewals
  readonly #refused: ChangesEvents['refused']

  constructor(hub: Hub, options: Options, publisher: Publisher, { failed, refused }: ChangesEvents) {
    this.#hub = hub
    this.#options = options
    this.#publications = new ClientPublications(hub, options, publisher, failed)
    this.#renewals = new Renewals(hub, options)
    this.#refused = refused
  }

  /** Whether it is such a message, and not one of the application. */
  takes(type: string): boolean {
    return TYPES.has(type)
  }

  async take(asker: Asker, message: ClientMessage, turn: Turn): Promise<void> {
    if (message.type === 'subscribe') return this.#subscribe(asker, message, turn)
    if (message.type === 'unsubscribe') return this.#unsubscribe(asker, message, turn)
    if (message.type === 'push.publish') return this.#publish(asker, message, turn)
    return this.#renew(asker, message, turn)
  }

  /** An `unsubscribe` must not overtake a `subscribe` that still waits for authorize(); nobody waits for one that is over. */
  #inOrder<T>(asker: Asker, change: () => T | Promise<T>, turn: Turn): Promise<T | undefined> {
    const changed = asker.lastChange.then(() => (turn.isOver ? undefined : change()))
    asker.lastChange = Promise.race([changed, turn.over]).catch(() => {})
    return changed
  }

  async #subscribe(asker: Asker, { payload, ref }: ClientMessage, turn: Turn): Promise<void> {
    const { connection } = asker
    const { topic, since, last, presence } = fieldsOf(payload, ['topic', 'since', 'last', 'presence'])
    const problem = topicProblem(topic)
    if (problem) throw new errors.TOPIC(`payload.topic: ${problem}`)
    if (since !== undefined && typeof since !== 'string') throw new errors.BAD_MESSAGE('payload.since is not a string')
    const badLast = lastProblem(last)
    if (badLast) throw new errors.BAD_MESSAGE(`payload.last ${badLast}`)
    const badPresence = this.#hub.presenceProblem(topic as Topic, presence)
    if (badPresence) throw badPresence
    const wanted = { since, last: last as Wanted['last'] }
    let isNew = false
    let renewals = 0
    const change = async () => {
      const granting = this.#authorize(connection, topic as Topic, { ...wanted, presence })
      await this.#noteRefusals(connection, topic as Topic, granting, turn)
      renewals = connection.renewals
      if (!connection.isClosing && !turn.isOver) isNew = this.#hub.join(connection, topic as Topic, wanted)
    }
    await this.#inOrder(asker, change, turn)
    if (connection.isClosing || turn.isOver) return
    turn.settle()
    if (presence === false) this.#hub.presence?.unwatch(topic as Topic, connection)
    const how = { isNew, ...wanted, ref, presence: presence === true, renewals }
    await this.#hub.confirm(connection, topic as Topic, how)
  }

  /** Ends as `granting` does. What is never answered is noted too, when the client is told so. */
  async #noteRefusals(connection: Connection, topic: Topic, granting: Promise<void>, turn: Turn): Promise<void> {
    const { refusals } = this.#hub
    let isAnswered = false
    void turn.over.then(() => {
      if (!isAnswered) refusals.add(connection, topic, TOO_LATE)
    })
    try {
      await refusals.watch(connection, topic, granting)
    } finally {
      isAnswered = true
    }
  }

  /** Throws unless the connection may subscribe, and do what it asks for besides. */
  async #authorize(
    connection: Connection,
    topic: Topic,
    { since, last, presence }: Wanted & { presence: unknown },
  ): Promise<void> {
    const { authorize } = this.#options.callbacks
    await authorizeSubscribe(authorize, connection, topic, since)
    if (last !== undefined) await authorizeAction(authorize, connection, topic, { action: 'history', since })
    if (presence) await authorizeAction(authorize, connection, topic, { action: 'presence' })
  }

  async #unsubscribe(asker: Asker, { payload, ref }: ClientMessage, turn: Turn): Promise<void> {
    const { topic } = fieldsOf(payload, ['topic'])
    const problem = topicProblem(topic)
    if (problem) throw new errors.TOPIC(`payload.topic: ${problem}`)
    await this.#inOrder(asker, () => this.#hub.unsubscribe(asker.connection, topic as Topic, ref), turn)
  }

  /** After the changes before it, so that a client may subscribe and publish without waiting for the answer. */
  async #publish(asker: Asker, { payload, ref }: ClientMessage, turn: Turn): Promise<void> {
    const { connection } = asker
    const draft = this.#publications.read(connection, payload)
    const started = await this.#inOrder(asker, () => this.#publications.start(connection, draft, turn), turn)
    if (turn.isOver) return
    turn.settle()
    const published = await started?.answer
    if (!published) return
    if (published instanceof Error) this.#refused(connection, published, ref)
    else if (ref !== undefined) connection.reply('push.published', published, ref)
  }

  /** In order: a `subscribe` that came before it is decided by the old identity, and looked at again by this. */
  async #renew(asker: Asker, { payload, ref }: ClientMessage, turn: Turn): Promise<void> {
    const { connection } = asker
    try {
      const renewed = await this.#inOrder(asker, () => this.#renewals.renew(connection, payload), turn)
      if (renewed && !turn.isOver && !connection.isClosing) connection.reply('authenticated', renewed, ref)
    } catch (error) {
      if (!isPushError(error)) throw error
      this.#refused(connection, error, ref)
    }
  }
}
