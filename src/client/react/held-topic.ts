import type { Member } from '../../protocol/presence.ts'
import type { ClientError } from '../handlers.ts'
import type { Client, Subscribed } from '../index.ts'
import type { Roster } from '../roster.ts'

/**
 * `idle`: no topic is wanted. `subscribing`: not yet, or not at the moment; `error` says why the last attempt failed, and it
 * is tried again. `failed`: given up, `error` says why.
 */
export interface ChannelState {
  readonly state: 'idle' | 'subscribing' | 'subscribed' | 'failed'
  readonly error: ClientError | undefined
}

export interface PresenceState extends ChannelState {
  /** Users, in the order in which they came; a few of them while `isPartial`. */
  readonly members: readonly Member[]
  /** How many users there are. */
  readonly count: number
  /** How many connections have no user. */
  readonly anonymous: number
  /** There are too many users for a list: only the numbers are kept. */
  readonly isPartial: boolean
  /** False until the server has sent the list, and after a disconnection until it sends it again. */
  readonly isKnown: boolean
}

const NOBODY = { members: [], count: 0, anonymous: 0, isPartial: false, isKnown: false } as const

// The same objects each time: React compares them to see whether anything has changed.
export const IDLE: ChannelState = { state: 'idle', error: undefined }
export const SUBSCRIBING: ChannelState = { state: 'subscribing', error: undefined }
export const NOBODY_WANTED: PresenceState = { ...IDLE, ...NOBODY }
export const NOBODY_YET: PresenceState = { ...SUBSCRIBING, ...NOBODY }

// Another attempt would get the same answer.
const FINAL = /^(PUSH_ERR_(FORBIDDEN|TOPIC|BAD_MESSAGE|UNSUBSCRIBED)|UNSUBSCRIBED)$/
const RETRY_AFTER = 5000
const MAX_RETRY = 60_000

/** One topic that components use, with one subscription for all of them. */
export class HeldTopic {
  channel = SUBSCRIBING
  presence = NOBODY_YET
  /** Runs while nobody holds the topic. */
  timer: ReturnType<typeof setTimeout> | undefined
  private topic: string
  private client: Client
  private changed: () => void
  private holders = 0
  private hasLeft = false
  private retry: ReturnType<typeof setTimeout> | undefined
  /** The answer of the client that is awaited, or was the last. */
  private asked: Promise<Subscribed> | undefined
  private roster: Roster | undefined
  private stopRoster = () => {}
  private failures = 0

  constructor(topic: string, client: Client, changed: () => void) {
    this.topic = topic
    this.client = client
    this.changed = changed
  }

  want({ last, presence }: { last?: number | undefined; presence?: boolean }): void {
    clearTimeout(this.timer)
    this.holders++
    // Who comes anew may have new rights.
    if (!this.asked || this.channel.state === 'failed') this.follow(last)
    if (presence && (!this.roster || this.roster.error)) this.call()
  }

  /** True if nobody else holds it. */
  release(): boolean {
    return --this.holders === 0
  }

  /** The client has subscribed again. What was given up stays so: the server may have decided it. */
  welcomed(): void {
    if (this.channel.state !== 'failed') this.follow()
  }

  /** Asks the client for the topic, and follows what becomes of that. */
  private follow(last?: number): void {
    clearTimeout(this.retry)
    if (this.hasLeft) return
    const asked = this.client.subscribe(this.topic, last === undefined ? {} : { last })
    if (asked === this.asked) return
    this.asked = asked
    if (this.channel.state === 'failed') this.become('subscribing')
    const isNew = () => this.asked === asked && !this.hasLeft
    asked.then(
      () => isNew() && this.subscribed(),
      (error: ClientError) => isNew() && this.failed(error),
    )
  }

  subscribed(): void {
    this.failures = 0
    this.become('subscribed')
  }

  failed(error: ClientError): void {
    clearTimeout(this.retry)
    if (this.client.state === 'closed' || FINAL.test(error.code)) return this.become('failed', error)
    // The next welcome asks again.
    if (error.code === 'CLOSED') return this.lost()
    this.become('subscribing', error)
    // Ever more rarely: over an event stream each attempt is another stream, with all topics.
    const most = Math.min(MAX_RETRY, RETRY_AFTER * 2 ** this.failures++)
    this.retry = setTimeout(() => this.follow(), most * (0.5 + Math.random() / 2))
  }

  /** The connection is lost. The client subscribes again by itself, unless it had given the topic up. */
  lost(): void {
    clearTimeout(this.retry)
    if (this.channel.state !== 'failed') this.become('subscribing', this.channel.error)
  }

  /** `wasStream`: the last welcome was that of an event stream. There may be no connection at the moment. */
  leave(wasStream: boolean): void {
    this.hasLeft = true
    clearTimeout(this.timer)
    clearTimeout(this.retry)
    this.stopRoster()
    // A topic that the connection has by itself, such as that of its user, is not for a component to leave.
    if (!this.isOwn(wasStream)) this.client.unsubscribe(this.topic)
  }

  private isOwn(wasStream: boolean): boolean {
    const { topics = {}, user } = this.client.welcome ?? {}
    // The welcome of an event stream names all topics that were asked for, too.
    if (wasStream && !this.topic.startsWith('connection:')) return ['all', `user:${user}`].includes(this.topic)
    return Object.hasOwn(topics, this.topic)
  }

  private call(): void {
    this.stopRoster()
    this.roster = this.client.presence(this.topic)
    this.stopRoster = this.roster.listen(() => this.become(this.channel.state, this.channel.error))
    this.become(this.channel.state, this.channel.error)
  }

  private become(state: ChannelState['state'], error?: ClientError): void {
    const { channel, roster } = this
    if (channel.state !== state || channel.error !== error) this.channel = { state, error }
    this.presence = roster ? presenceOf(this.channel, roster) : { ...NOBODY, ...this.channel }
    this.changed()
  }
}

function presenceOf(channel: ChannelState, roster: Roster): PresenceState {
  const { members, count, anonymous, isPartial, isKnown } = roster
  const isFinal = roster.error !== undefined && FINAL.test(roster.error.code)
  const state = isFinal ? 'failed' : channel.state
  return { state, error: channel.error ?? roster.error, members, count, anonymous, isPartial, isKnown }
}
