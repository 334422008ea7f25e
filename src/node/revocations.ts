import type { Broker } from '../broker/broker.ts'
import { LoopLoad } from '../broker/loop-load.ts'
import { isTransient, within } from '../broker/waiting.ts'
import type { Connection } from '../connection/connection.ts'
import { timeOf } from '../connection/identity.ts'
import type { Registry } from '../connection/registry.ts'
import type { Answers } from '../delivery/answers.ts'
import { errors, isPushError } from '../protocol/errors.ts'
import { CLOSE } from '../protocol/messages.ts'
import type { Topic } from '../protocol/topic.ts'
import { REVOKED } from '../publish/revoke.ts'

/** The part of an identity that can be revoked. */
interface Revocable {
  user: string | null
  began: number
}

/** A connection waits this long to learn whether its user was revoked; then it is let in and looked at again. */
const PATIENCE = 1000

/** Milliseconds between two attempts to look at all users. */
const RETRY = 1000

const OF_USER = 'user:'

/** Users that are asked for at once. */
const PAGE = 500

/** For this many milliseconds a busy node collects users for one command: clients arrive a few at a time. */
const GATHER = 10

/** When the user was revoked, undefined if never; or that the broker does not say. */
type Answer = { revokedAt: number | undefined } | 'unknown'

/** Those who asked for one user. */
type Asking = ((answer: Answer) => void)[]

/** Keeps out users whose identities began before somebody revoked them, on every way in. */
export class Revocations {
  readonly #broker: Pick<Broker, 'revokedAt' | 'connected'>
  readonly #registry: Pick<Registry<Connection>, 'values' | 'members'>
  readonly #failed: (error: unknown) => void
  readonly #load = new LoopLoad()
  #gathering: NodeJS.Timeout | undefined
  /** Who asks in this turn of the event loop, or in a few of a busy one, by user. */
  #asked = new Map<string, Asking>()
  #timer: NodeJS.Timeout | undefined
  #isLooking = false
  #isClosed = false

  constructor(
    broker: Pick<Broker, 'revokedAt' | 'connected'>,
    registry: Pick<Registry<Connection>, 'values' | 'members'>,
    failed: (error: unknown) => void,
  ) {
    this.#broker = broker
    this.#registry = registry
    this.#failed = failed
  }

  /**
   * Throws PUSH_ERR_UNAUTHENTICATED if the identity was revoked. If the broker does not say so in time, it may come in:
   * nothing that is published elsewhere reaches this node either, and it looks at all users as soon as it can.
   */
  async check(identity: Revocable): Promise<void> {
    if (identity.user === null) return
    const answer = await this.#ask(identity.user)
    if (answer === 'unknown') return this.#lookSoon()
    if (isRevoked(identity, answer.revokedAt)) {
      throw new errors.UNAUTHENTICATED('the identity was revoked: prove again who you are')
    }
  }

  /**
   * Ends a connection whose identity was revoked while it was being opened. Resolves with whether it goes on. Asked when
   * the topic of the user is confirmed: a revocation after that is heard, and one before it is seen. If the topic is `late`,
   * it is asked again then.
   */
  async admits(connection: Connection, answers: Pick<Answers, 'confirmed'>, late: readonly Topic[]): Promise<boolean> {
    const topic: Topic = `user:${connection.user}`
    if (late.includes(topic)) void answers.confirmed(topic).then(() => this.#admits(connection))
    return this.#admits(connection)
  }

  async #admits(connection: Connection): Promise<boolean> {
    try {
      await this.check(connection)
    } catch {
      end(connection)
    }
    return !connection.isClosing
  }

  /** All that ask in one turn are asked for together. */
  #ask(user: string): Promise<Answer> {
    if (this.#asked.size === 0) this.#askSoon()
    return new Promise(resolve => {
      const answers = this.#asked.get(user)
      if (answers) answers.push(resolve)
      else this.#asked.set(user, [resolve])
    })
  }

  #askSoon(): void {
    const askAll = () => void this.#askAll()
    if (this.#load.isHigh(performance.now())) this.#gathering = setTimeout(askAll, GATHER)
    else setImmediate(askAll)
  }

  /** In one write, and each user gets its own answer: nobody waits for a shard that only others need. */
  async #askAll(): Promise<void> {
    const asked = [...this.#asked]
    this.#asked = new Map()
    const times = this.#broker.revokedAt(asked.map(([user]) => user))
    const told = asked.map(([, asking], i) => tellTime(asking, times[i]!))
    await within(PATIENCE, Promise.all(told))
    // Who was told keeps that answer.
    for (const [, asking] of asked) tell(asking, 'unknown')
  }

  /** The node may not have heard that users were revoked; `isOver`: it hears everything, or these topics, again. */
  missed(isOver: boolean, topics?: readonly Topic[]): void {
    if (!isOver) return this.#lookSoon()
    if (topics) return void this.#lookAtMoved(topics)
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#lookSoon(0)
  }

  #lookSoon(milliseconds = RETRY): void {
    if (this.#isClosed || this.#timer) return
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      void this.#lookAtAll()
    }, milliseconds)
    this.#timer.unref()
  }

  async #lookAtAll(): Promise<void> {
    if (this.#isClosed) return
    if (this.#isLooking || !this.#broker.connected) return this.#lookSoon()
    this.#isLooking = true
    try {
      const users = new Set<string>()
      for (const { user } of this.#registry.values()) if (user !== null) users.add(user)
      await this.#lookAtAllOf([...users])
    } catch (error) {
      // What the user of this node may not read is in the log of the link, and asking again would not help.
      if (isTransient(error)) this.#lookSoon()
      else if (!isPushError(error)) this.#failed(error)
    } finally {
      this.#isLooking = false
    }
  }

  /** While slots move this comes often, so only for those concerned. */
  async #lookAtMoved(topics: readonly Topic[]): Promise<void> {
    const users = topics.filter(topic => topic.startsWith(OF_USER)).map(topic => topic.slice(OF_USER.length))
    try {
      await this.#lookAtAllOf(users)
    } catch {
      this.#lookSoon()
    }
  }

  async #lookAtAllOf(users: readonly string[]): Promise<void> {
    for (let at = 0; at < users.length && !this.#isClosed; at += PAGE) await this.#lookAt(users.slice(at, at + PAGE))
  }

  async #lookAt(users: readonly string[]): Promise<void> {
    const times = await Promise.all(this.#broker.revokedAt(users))
    for (const [i, user] of users.entries()) {
      if (times[i] === undefined) continue
      for (const connection of [...this.#registry.members(`user:${user}`)]) {
        if (connection.user === user && isRevoked(connection, times[i])) end(connection)
      }
    }
  }

  close(): void {
    this.#isClosed = true
    clearTimeout(this.#timer)
    clearTimeout(this.#gathering)
    // Nobody waits for ever.
    void this.#askAll()
  }
}

async function tellTime(asking: Asking, time: Promise<number | undefined>): Promise<void> {
  try {
    tell(asking, { revokedAt: await time })
  } catch {
    tell(asking, 'unknown')
  }
}

function tell(asking: Asking, answer: Answer): void {
  for (const settle of asking) settle(answer)
}

function isRevoked({ began }: Revocable, revokedAt: number | undefined): boolean {
  return revokedAt !== undefined && timeOf(began) <= revokedAt
}

function end(connection: Connection): void {
  connection.close(CLOSE.UNAUTHENTICATED, REVOKED)
}
