import type { MarkedPlace, PresenceStore } from '../../broker/presence.ts'
import { directSegment, type Segment } from '../../connection/queue.ts'
import type { PresenceRules } from '../../options/presence.ts'
import { errors } from '../../protocol/errors.ts'
import { encodeMessage } from '../../protocol/messages.ts'
import type { PresenceMessage } from '../../protocol/presence.ts'
import type { PresenceDelta } from '../../protocol/presence-delta.ts'
import type { Topic } from '../../protocol/topic.ts'
import { RENEWALS } from './share-writer.ts'
import { Watch } from './watch.ts'

/** A client that asked who is on a topic. */
export interface Watcher {
  readonly isClosing: boolean
  push(segment: Segment): boolean
}

/** Of a topic with too many users for a list, the numbers are told this often, in milliseconds. */
const NUMBERS_INTERVAL = 1000
/** A change that this node has not heard of may be on its way for this many milliseconds. */
const SETTLE = 1000
/** After the broker has lost the list, all nodes have written it again this many milliseconds after they renew a lease. */
const REBUILD = 2000
/** Milliseconds between two attempts to read a list. */
const RETRY = 1000

interface Watched<W> {
  watch: Watch
  watchers: Set<W>
  /** Those of the watchers that have no list yet. */
  fresh: Set<W>
  loading: Promise<void> | undefined
  /** The list will be read soon. */
  isDue: boolean
  /** What is to be told at the end of the interval. */
  numbers: PresenceMessage | undefined
  timers: Set<NodeJS.Timeout>
}

/** Which clients of this node want to know who is on which topic. */
export class Watches<W extends Watcher> {
  readonly #store: Pick<PresenceStore, 'members'>
  readonly #rules: PresenceRules
  readonly #byTopic = new Map<Topic, Watched<W>>()

  constructor(store: Pick<PresenceStore, 'members'>, rules: PresenceRules) {
    this.#store = store
    this.#rules = rules
  }

  get size(): number {
    return this.#byTopic.size
  }

  /** Resolves when the list of `topic` is known. Rejects when nobody can watch the topic, or it cannot be read. */
  async ready(topic: Topic): Promise<void> {
    const watched = this.#watched(topic)
    if (watched.loading) await watched.loading
    if (!watched.watch.isKnown) await this.#load(watched)
  }

  /** From now on `watcher` is told every change. Returns the list as it is at this moment; undefined if it is not known. */
  begin(topic: Topic, watcher: W): PresenceMessage[] | undefined {
    const watched = this.#watched(topic)
    watched.watchers.add(watcher)
    if (watched.watch.isKnown) return watched.watch.list()
    watched.fresh.add(watcher)
    this.#loadLater(watched, 0)
    return undefined
  }

  has(topic: Topic, watcher: W): boolean {
    return this.#byTopic.get(topic)?.watchers.has(watcher) ?? false
  }

  end(topic: Topic, watcher: W): void {
    const watched = this.#byTopic.get(topic)
    if (!watched) return
    watched.watchers.delete(watcher)
    watched.fresh.delete(watcher)
    if (watched.watchers.size === 0) this.#forget(topic, watched)
  }

  #watched(topic: Topic): Watched<W> {
    const known = this.#byTopic.get(topic)
    if (known) return known
    const rule = this.#rules.of(topic)
    if (!rule) throw new errors.TOPIC(`${topic} has no presence: name it in the option presence`)
    const watch = new Watch(topic, rule, (cursor, count) => this.#store.members(topic, cursor, count))
    const watched: Watched<W> = {
      watch,
      watchers: new Set(),
      fresh: new Set(),
      loading: undefined,
      isDue: false,
      numbers: undefined,
      timers: new Set(),
    }
    this.#byTopic.set(topic, watched)
    return watched
  }

  #forget(topic: Topic, watched: Watched<W>): void {
    for (const timer of watched.timers) clearTimeout(timer)
    if (this.#byTopic.get(topic) === watched) this.#byTopic.delete(topic)
  }

  /** The broker told a change. */
  take(topic: Topic, delta: PresenceDelta): void {
    const watched = this.#byTopic.get(topic)
    if (!watched) return
    const message = watched.watch.take(delta)
    if (message === false) this.#loadLater(watched, watched.watch.isOf(delta.epoch) ? 0 : this.#rebuilding)
    else if (message?.partial && !message.members) this.#tellNumbers(watched, message)
    else if (message) tell(watched.watchers, [message])
  }

  /** The broker says where the list is. A change that does not come was missed. */
  seen(topic: Topic, place: MarkedPlace): void {
    const watched = this.#byTopic.get(topic)
    if (!watched?.watch.isKnown || watched.watch.isAt(place)) return
    this.#later(watched, watched.watch.isOf(place.epoch) ? SETTLE : this.#rebuilding, () => {
      if (!watched.watch.isAt(place)) this.#loadLater(watched, 0)
    })
  }

  /** Until then some nodes may not have written their share: their users would seem to have left. */
  get #rebuilding(): number {
    return this.#rules.lease / RENEWALS + REBUILD
  }

  #later(watched: Watched<W>, milliseconds: number, then: () => void): void {
    const timer = setTimeout(() => {
      watched.timers.delete(timer)
      then()
    }, milliseconds)
    timer.unref()
    watched.timers.add(timer)
  }

  #loadLater(watched: Watched<W>, milliseconds: number): void {
    if (watched.isDue) return
    watched.isDue = true
    this.#later(watched, milliseconds, () => {
      watched.isDue = false
      this.#load(watched).catch(() => {
        if (watched.watchers.size > 0) this.#loadLater(watched, RETRY)
      })
    })
  }

  #load(watched: Watched<W>): Promise<void> {
    watched.loading ??= watched.watch
      .load()
      .then(changes => this.#loaded(watched, changes))
      .finally(() => {
        watched.loading = undefined
        if (watched.watchers.size === 0) this.#later(watched, RETRY, () => this.#forgetUnused(watched))
      })
    return watched.loading
  }

  #loaded({ watch, watchers, fresh }: Watched<W>, changes: readonly PresenceMessage[]): void {
    const others = [...watchers].filter(watcher => !fresh.has(watcher))
    tell(others, changes)
    if (fresh.size > 0) tell(fresh, watch.list())
    fresh.clear()
  }

  /** Somebody asked and left before there was an answer. */
  #forgetUnused(watched: Watched<W>): void {
    if (watched.watchers.size === 0) this.#forget(watched.watch.topic, watched)
  }

  #tellNumbers(watched: Watched<W>, message: PresenceMessage): void {
    const isWaiting = watched.numbers !== undefined
    watched.numbers = message
    if (isWaiting) return
    this.#later(watched, NUMBERS_INTERVAL, () => {
      const numbers = watched.numbers!
      watched.numbers = undefined
      if (watched.watch.isPartial) tell(watched.watchers, [numbers])
    })
  }

  close(): void {
    for (const [topic, watched] of this.#byTopic) this.#forget(topic, watched)
  }
}

/** Encoded once for all. */
function tell(watchers: Iterable<Watcher>, messages: readonly PresenceMessage[]): void {
  const segments = messages.map(message => directSegment(encodeMessage('push.presence', message)))
  for (const watcher of watchers) {
    if (watcher.isClosing) continue
    for (const segment of segments) watcher.push(segment)
  }
}
