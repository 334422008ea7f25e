import { within } from '../broker/waiting.ts'
import type { Connection } from '../connection/connection.ts'
import type { Identity } from '../connection/identity.ts'
import { countOf, topicsOf } from '../connection/registry.ts'
import type { Options } from '../options/options.ts'
import { errors, isPushError, limitError } from '../protocol/errors.ts'
import type { Authenticated } from '../protocol/messages.ts'
import type { Action } from '../protocol/rights.ts'
import { ownTopics, type Topic } from '../protocol/topic.ts'
import { authorizeAction } from './authorization.ts'
import type { Hub } from './hub.ts'
import { MessageIdentities } from './identities.ts'

/** What another identity changes for a connection. */
interface Change {
  identity: Identity
  /** Topics that it may no longer hear. */
  left: readonly Topic[]
  /** Topics of which it may go on knowing who is there. */
  seen: ReadonlySet<Topic>
  joined: readonly Topic[]
}

/** Replaces the identity of an open connection, and what follows from it. */
export class Renewals {
  readonly #hub: Hub
  readonly #options: Options
  readonly #identities: MessageIdentities

  constructor(hub: Hub, options: Options) {
    this.#hub = hub
    this.#options = options
    this.#identities = new MessageIdentities(hub.broker, options)
  }

  /** Throws if the new identity is not accepted: the old one then goes on until it ends. */
  async renew(connection: Connection, payload: unknown): Promise<Authenticated> {
    const { handshake } = this.#options.limits
    const change = await inTime(handshake, this.#changeOf(connection, payload))
    if (!change) throw new errors.UNAUTHENTICATED(`the identity was not known within ${handshake} ms`)
    // The client has gone meanwhile: nobody reads the answer.
    const unseen = connection.isClosing ? [] : this.#apply(connection, change)
    return { ...authenticated(connection), ...(unseen.length > 0 && { unseen }) }
  }

  async #changeOf(connection: Connection, payload: unknown): Promise<Change> {
    const { identity, topics } = await this.#identities.of(payload, connection)
    if (identity.user !== connection.user) {
      throw new errors.FORBIDDEN('the new identity is that of another user: open another connection for it')
    }
    await this.#hub.revocations.check(identity)
    const joined = topics.filter(topic => !this.#hub.registry.has(connection, topic))
    const change = { identity, joined, ...(await this.#lostBy(connection, identity, topics)) }
    const count = countOf(connection.subscriptions) - change.left.length + joined.length
    if (count > this.#options.limits.topics) {
      throw limitError('topics', `the connection would have ${count} topics (limits.topics)`)
    }
    return change
  }

  /** What the connection has and `identity` does not allow. A topic that the application gave it with a command is asked for too. */
  async #lostBy(connection: Connection, identity: Identity, join: readonly Topic[]) {
    const { authorize } = this.#options.callbacks
    const own = new Set(ownTopics(connection.id, connection.user))
    const topics = topicsOf(connection)
    const asked = { ...identity, id: connection.id, topics: new Set([...own, ...join]) }
    const isGranted = (topic: Topic, action: Action) =>
      authorizeAction(authorize, asked, topic, { action }).then(
        () => true,
        error => {
          if (isPushError(error) && error.code === 'PUSH_ERR_FORBIDDEN') return false
          throw error
        },
      )
    const heard = await Promise.all(
      topics.map(topic => own.has(topic) || join.includes(topic) || isGranted(topic, 'subscribe')),
    )
    const left = topics.filter((_, i) => !heard[i])
    const watched = topics.filter((topic, i) => heard[i] && this.#hub.presence?.isWatching(topic, connection))
    const seen = await Promise.all(watched.map(topic => isGranted(topic, 'presence')))
    return { left, seen: new Set(watched.filter((_, i) => seen[i])) }
  }

  /** Returns the topics of which the client no longer knows who is there. */
  #apply(connection: Connection, { identity, left, seen, joined }: Change): Topic[] {
    const { presence, registry } = this.#hub
    connection.become(identity)
    for (const topic of left) if (registry.has(connection, topic)) this.#hub.unsubscribe(connection, topic)
    // Looked at only now: a question about who is there may have been answered meanwhile.
    const unseen = topicsOf(connection).filter(topic => presence?.isWatching(topic, connection) && !seen.has(topic))
    for (const topic of unseen) presence?.unwatch(topic, connection)
    presence?.inform(connection, topicsOf(connection))
    for (const topic of joined) void this.#join(connection, topic)
    return unseen
  }

  async #join(connection: Connection, topic: Topic): Promise<void> {
    try {
      const isNew = this.#hub.join(connection, topic)
      await this.#hub.confirm(connection, topic, { isNew })
    } catch (error) {
      // It was left again before it was confirmed, or commands have taken the last places meanwhile.
      const { code, message } = error as { code?: string; message: string }
      connection.reply('error', { code: code ?? 'PUSH_ERR_INTERNAL', message }, undefined)
    }
  }
}

/** What a connection is now, for its client. */
export function authenticated(connection: Connection): Authenticated {
  const { user, expires } = connection
  return { user, ...(expires !== undefined && { expires }), topics: topicsOf(connection) }
}

/** Undefined if `promise` takes longer than `milliseconds`. Rejects as it does. */
async function inTime<T>(milliseconds: number, promise: Promise<T>): Promise<T | undefined> {
  const settled = promise.then(
    value => ({ value }),
    (error: unknown) => ({ error }),
  )
  const result = await within(milliseconds, settled)
  if (result && 'error' in result) throw result.error
  return result?.value
}
