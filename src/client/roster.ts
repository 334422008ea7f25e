import type { Member, PresenceMessage } from '../protocol/presence.ts'
import type { ClientError, Handler, Handlers } from './handlers.ts'
import { areTexts } from './message.ts'

/** What has changed in a roster. After a reconnect it is the difference to what was known before. */
export interface RosterChange {
  joined: Member[]
  updated: Member[]
  left: Member[]
}

/** Who is on a topic, kept up to date. */
export interface Roster {
  readonly topic: string
  /** Users, in the order in which they came; a few of them while `isPartial`. */
  readonly members: Member[]
  /** How many users there are. */
  readonly count: number
  /** How many connections have no user. */
  readonly anonymous: number
  /** There are too many users for a list: only the numbers are kept. */
  readonly isPartial: boolean
  /** False until the server has sent the list, and after a disconnection until it sends it again. */
  readonly isKnown: boolean
  /** Why the last question was refused; undefined when it was answered. */
  readonly error: ClientError | undefined
  get(user: string): Member | undefined
  /** Calls `handler` after every change, also one of `error` alone. Returns a function that stops it. */
  listen(handler: (change: RosterChange) => unknown): () => void
}

/** Asks the server for the list. Resolves when it has answered. */
type Ask = (topic: string) => Promise<unknown>

const FINAL = /^PUSH_ERR_(FORBIDDEN|TOPIC|BAD_MESSAGE|UNSUBSCRIBED)$/
const RETRY = 5000

class TopicRoster implements Roster {
  readonly topic: string
  count = 0
  anonymous = 0
  isPartial = false
  isKnown = false
  error: ClientError | undefined
  timer: ReturnType<typeof setTimeout> | undefined
  private handlers: Handlers
  private byUser = new Map<string, Member>()
  /** A list that comes in parts, until it is whole. */
  private parts: Map<string, Member> | undefined

  constructor(topic: string, handlers: Handlers) {
    this.topic = topic
    this.handlers = handlers
  }

  get members(): Member[] {
    return [...this.byUser.values()]
  }

  get(user: string): Member | undefined {
    return this.byUser.get(user)
  }

  listen(handler: (change: RosterChange) => unknown): () => void {
    return this.handlers.add(`roster ${this.topic}`, handler as Handler)
  }

  take(message: PresenceMessage): void {
    const { members, more, continued, partial, count, anonymous, joined = [], updated = [], left = [] } = message
    if (members) {
      this.parts = new Map([
        ...(continued && this.parts ? this.parts : []),
        ...members.map(member => [member.user, member] as const),
      ])
      if (more) return
    }
    const next = this.parts ?? new Map(this.byUser)
    this.parts = undefined
    for (const member of [...joined, ...updated]) next.set(member.user, member)
    for (const user of left) next.delete(user)
    const wasKnown = !this.error && (this.isKnown || this.byUser.size > 0)
    // Who is not in a sample need not have left.
    const change = partial || this.isPartial ? NO_CHANGE : differenceOf(this.byUser, next)
    const isSame = count === this.count && anonymous === this.anonymous && partial === (this.isPartial || undefined)
    this.byUser = next
    this.count = count
    this.anonymous = anonymous
    this.isPartial = partial === true
    this.isKnown = true
    this.error = undefined
    if (!wasKnown || !isSame || change.joined.length + change.updated.length + change.left.length > 0) {
      this.handlers.emit(`roster ${this.topic}`, change)
    }
  }

  refuse(error: ClientError): void {
    this.error = error
    this.handlers.emit(`roster ${this.topic}`, NO_CHANGE)
  }
}

const userOf = (member: unknown): unknown => Object(member).user

const NO_CHANGE: RosterChange = { joined: [], updated: [], left: [] }

function differenceOf(before: ReadonlyMap<string, Member>, next: ReadonlyMap<string, Member>): RosterChange {
  const change: RosterChange = { joined: [], updated: [], left: [] }
  for (const [user, member] of next) {
    const old = before.get(user)
    if (!old) change.joined.push(member)
    else if (JSON.stringify(old) !== JSON.stringify(member)) change.updated.push(member)
  }
  for (const [user, member] of before) if (!next.has(user)) change.left.push(member)
  return change
}

/** The rosters that the application asked for, and asks for again on every connection. */
export class Rosters {
  private byTopic = new Map<string, TopicRoster>()
  private handlers: Handlers
  private ask: Ask

  constructor(handlers: Handlers, ask: Ask) {
    this.handlers = handlers
    this.ask = ask
  }

  /** `isOpen`: there is a connection to ask on. */
  want(topic: string, isOpen: boolean): Roster {
    const known = this.byTopic.get(topic)
    if (known) return known
    const roster = new TopicRoster(topic, this.handlers)
    this.byTopic.set(topic, roster)
    if (isOpen) this.request(roster)
    return roster
  }

  /** The connection was welcomed. */
  begin(): void {
    for (const roster of this.byTopic.values()) this.request(roster)
  }

  private async request(roster: TopicRoster): Promise<void> {
    clearTimeout(roster.timer)
    try {
      await this.ask(roster.topic)
    } catch (error) {
      this.refused(roster, error as ClientError)
    }
  }

  private refused(roster: TopicRoster, error: ClientError): void {
    // If the connection is lost, the next welcome asks again.
    if (error.code === 'CLOSED' || this.byTopic.get(roster.topic) !== roster) return
    if (FINAL.test(error.code)) this.forget(roster.topic)
    else roster.timer = setTimeout(() => this.request(roster), RETRY * (0.5 + Math.random() / 2))
    roster.refuse(error)
    this.handlers.report(error)
  }

  /** False if it is no message about who is there. */
  take(message: PresenceMessage): boolean {
    const { topic, count, members, joined, updated, left = [] } = message
    if (typeof topic !== 'string' || typeof count !== 'number' || !areTexts(left)) return false
    if (![members, joined, updated].every((list = []) => Array.isArray(list) && areTexts(list.map(userOf))))
      return false
    this.byTopic.get(topic)?.take(message)
    return true
  }

  /** The connection is lost: the list may be out of date. */
  reset(): void {
    for (const roster of this.byTopic.values()) {
      clearTimeout(roster.timer)
      roster.isKnown = false
    }
  }

  forget(topic: string): void {
    clearTimeout(this.byTopic.get(topic)?.timer)
    this.byTopic.delete(topic)
  }
}
