import type { Gap } from '../../protocol/messages.ts'
import { ClientError } from '../handlers.ts'
import type { Client, ClientEvents } from '../index.ts'
import { HeldTopic } from './held-topic.ts'

/** A client whatever its messages and requests. */
export type AnyClient = Omit<Client, 'on' | 'request'>

type State = ClientEvents['state']

/**
 * Milliseconds for which a client and its topics are kept when no component has them any more. React takes components away
 * and brings them back at once (StrictMode, a new key), and who goes from one page to the next often needs the same topics:
 * leaving a topic forgets its position, so that messages in between would be missed.
 */
export const LINGER = 1000

const CONNECTING: State = { state: 'connecting' }
const byClient = new WeakMap<AnyClient, SharedClient>()

/**
 * What all components below a provider share: one client, and one subscription for each topic. It knows nothing of React.
 * Whoever makes one opens nothing: rendering must leave no trace, since React may never show what it rendered.
 */
export class SharedClient {
  /** Undefined until an effect has opened it. */
  client: Client | undefined
  /** What a server renders with. */
  readonly given: Client | undefined
  state: State
  /** The last welcome was that of an event stream. The client itself says so only while it is open. */
  private wasStream = false
  private connect: () => Client
  private mounts = 0
  private timer: ReturnType<typeof setTimeout> | undefined
  private topics = new Map<string, HeldTopic>()
  private watchers = new Set<() => void>()
  private stops: (() => void)[] = []
  /** Topics of which somebody wants to know what was missed: how many do. */
  private gapListeners = new Map<string, number>()
  private stopWarning: (() => void) | undefined
  private hasWarned = false

  /** `given`: a client that somebody else has made, and closes. Otherwise `connect` makes one when it is needed. */
  constructor({ given, connect }: { given?: Client; connect?: () => Client }) {
    this.given = this.client = given
    this.connect = connect ?? (() => given!)
    this.state = given ? { state: given.state } : CONNECTING
  }

  /** Providers of the same client share it too: islands of a page, for example. */
  static of(client: AnyClient): SharedClient {
    const known = byClient.get(client)
    if (known) return known
    const shared = new SharedClient({ given: client as Client })
    byClient.set(client, shared)
    return shared
  }

  /** A provider is shown. Returns what to call when it is not any more. */
  mount(): () => void {
    clearTimeout(this.timer)
    this.mounts++
    this.open()
    let isMounted = true
    return () => {
      if (isMounted && --this.mounts === 0) this.timer = setTimeout(() => this.close(), LINGER)
      isMounted = false
    }
  }

  /** The client, connected now at the latest: effects of components run before that of their provider. */
  open(): Client {
    if (this.stops.length > 0) return this.client!
    const client = this.connect()
    this.client = client
    this.state = { state: client.state }
    this.wasStream = client.transport === 'sse'
    this.stops = [
      client.listen('state', detail => this.entered(detail)),
      // At `welcome`, not at `open`: then the client has asked for its topics again by itself.
      client.listen('welcome', () => this.welcomed(client.transport === 'sse')),
      client.listen('subscribed', ({ topic }) => this.topics.get(topic)?.subscribed()),
      client.listen('unsubscribed', ({ topic }) =>
        this.topics.get(topic)?.failed(new ClientError('UNSUBSCRIBED', `the server unsubscribed ${topic}`)),
      ),
    ]
    this.changed()
    return client
  }

  /** A component wants a topic. Returns what to call when it does not any more. */
  hold(topic: string, options: { last?: number | undefined; presence?: boolean } = {}): () => void {
    const client = this.open()
    const held = this.topics.get(topic) ?? new HeldTopic(topic, client, this.changed)
    this.topics.set(topic, held)
    held.want(options)
    let isHeld = true
    return () => {
      if (isHeld && held.release()) {
        held.timer = setTimeout(() => {
          held.leave(this.wasStream)
          // After a close there may be another one of this name.
          if (this.topics.get(topic) === held) this.topics.delete(topic)
        }, LINGER)
      }
      isHeld = false
    }
  }

  /**
   * Calls `handler` when messages of the topic were or may have been missed. Returns what ends it. As long as nobody listens
   * the client itself warns of the first gap. From then on it does not, so for other topics it is said here.
   */
  listenToGaps(topic: string, handler: (gap: Gap) => unknown): () => void {
    const client = this.open()
    const isAbout = (gap: Gap) => (gap.topics as readonly string[]).includes(topic)
    // One listener each: a handler that throws keeps no other from being called.
    const stop = client.listen('gap', gap => isAbout(gap) && handler(gap))
    this.gapListeners.set(topic, (this.gapListeners.get(topic) ?? 0) + 1)
    this.stopWarning ??= client.listen('gap', gap => this.warnOf(gap))
    return () => {
      stop()
      const left = (this.gapListeners.get(topic) ?? 0) - 1
      if (left > 0) this.gapListeners.set(topic, left)
      else this.gapListeners.delete(topic)
      if (this.gapListeners.size === 0) this.stopGapWarning()
    }
  }

  /** What there is to know of a topic that somebody holds. */
  held(topic: string): HeldTopic | undefined {
    return this.topics.get(topic)
  }

  watch = (watcher: () => void): (() => void) => {
    this.watchers.add(watcher)
    return () => this.watchers.delete(watcher)
  }

  private changed = (): void => {
    for (const watcher of [...this.watchers]) watcher()
  }

  private warnOf({ topics }: Gap): void {
    const unheard = (topics as readonly string[]).filter(topic => !this.gapListeners.has(topic))
    if (unheard.length === 0 || this.hasWarned) return
    this.hasWarned = true
    console.warn('messages were or may have been missed: give useChannel an onGap for', unheard.join(', '))
  }

  private stopGapWarning(): void {
    this.stopWarning?.()
    this.stopWarning = undefined
  }

  private welcomed(isStream: boolean): void {
    this.wasStream = isStream
    this.each(topic => topic.welcomed())
  }

  private entered(detail: State): void {
    this.state = detail
    if (detail.state === 'closed') this.each(topic => topic.failed(new ClientError('CLOSED', 'the client is closed')))
    else if (detail.state !== 'open') this.each(topic => topic.lost())
    this.changed()
  }

  private close(): void {
    for (const stop of this.stops.splice(0)) stop()
    this.stopGapWarning()
    this.each(topic => topic.leave(this.wasStream))
    this.topics.clear()
    if (!this.given) {
      this.client?.close()
      this.client = undefined
      this.state = CONNECTING
    }
    this.changed()
  }

  private each(run: (topic: HeldTopic) => void): void {
    for (const topic of [...this.topics.values()]) run(topic)
  }
}
