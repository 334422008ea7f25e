import type { Topic } from '../protocol/topic.ts'

/** What became of one publication on this node. */
export interface Recent {
  /** As `performance.now()`. */
  at: number
  type: string | undefined
  id: string | undefined
  delivered: number
  skipped: Record<string, number>
  rejected: string | undefined
}

export interface Busy {
  topic: Topic
  publications: number
}

/** Powers of two: topics share places by a hash of their names, and a place keeps its newest publications. */
const PLACES = 2048
const EACH = 16

/** Topics that people have asked for lately have a place of their own each, behind the others, for so many milliseconds. */
const WATCHED = 32
const WATCHED_FOR = 10 * 60_000

const ALL_PLACES = PLACES + WATCHED
const SIZE = ALL_PLACES * EACH

/** Characters at the end of a name that tell topics apart. */
const HASHED = 16

/** What is counted of each publication. */
const REASONS = ['except', 'closing', 'slow', 'overload'] as const
const COUNTS = 5

type Reason = (typeof REASONS)[number]

/** What became of publications that were queued together: how many connections got them, and how many did not. */
type Ended = Record<'reached' | Exclude<Reason, 'except'>, number>

/** Marks what is no type but the reason why it was rejected: no type begins with it. */
const REJECTED = '!'

/** Memory is taken when the first publication comes, and never more later, but for the texts. */
class Store {
  readonly next = new Uint8Array(ALL_PLACES)
  readonly at = new Float64Array(SIZE)
  readonly counts = new Uint32Array(SIZE * COUNTS)
  readonly topics = new Array<Topic | undefined>(SIZE).fill(undefined)
  /** The type, or why it was rejected. */
  readonly kinds = new Array<string | undefined>(SIZE).fill(undefined)
  readonly ids = new Array<string | undefined>(SIZE).fill(undefined)
  /** Publications in each place since the last rotation, and in the period before. */
  present = new Uint32Array(ALL_PLACES)
  before = new Uint32Array(ALL_PLACES)
}

/**
 * The newest publications of each topic: what people ask for who miss one. A busy topic pushes out those that share its
 * place, one topic in 2,048, and no others. Called for every publication, so it creates nothing.
 */
export class RecentPublications {
  /** When the publications of this turn came, as `performance.now()`. */
  now = 0
  #store: Store | undefined
  #lastTopic: Topic | undefined
  #lastPlace = 0
  #rotatedAt = 0
  #rotatedBefore = 0
  /** The places of topics that were asked for, and until when; who was asked for longest ago comes first. */
  readonly #watched = new Map<Topic, { place: number; until: number }>()

  /** Returns its index, under which more is noted before anything else comes. */
  note(topic: Topic, kind: string | undefined, id: string | undefined): number {
    this.#store ??= new Store()
    const store = this.#store
    const place = this.#placeOf(topic)
    const next = store.next[place]!
    const index = place * EACH + next
    store.next[place] = (next + 1) & (EACH - 1)
    store.present[place]!++
    store.at[index] = this.now
    store.topics[index] = topic
    store.kinds[index] = kind
    store.ids[index] = id
    const counts = index * COUNTS
    store.counts[counts] = 0
    store.counts[counts + 1] = 0
    store.counts[counts + 2] = 0
    store.counts[counts + 3] = 0
    store.counts[counts + 4] = 0
    return index
  }

  reached(index: number, connections: number): void {
    this.#store!.counts[index * COUNTS] = connections
  }

  skipped(index: number, reason: Reason, connections = 1): void {
    this.#store!.counts[index * COUNTS + 1 + REASONS.indexOf(reason)]! += connections
  }

  rejected(topic: Topic, reason: string, id?: string): void {
    this.note(topic, REJECTED + reason, id)
  }

  /** What became of the last `publications` of a topic, which were queued together. */
  ended(topic: Topic, publications: number, done: Ended): void {
    const place = this.#placeOf(topic)
    const { next, topics } = this.#store!
    let left = Math.min(publications, EACH)
    for (let back = 1; back <= EACH && left > 0; back++) {
      const index = place * EACH + ((next[place]! - back) & (EACH - 1))
      if (topics[index] !== topic) continue
      left--
      this.reached(index, done.reached)
      if (done.closing > 0) this.skipped(index, 'closing', done.closing)
      if (done.slow > 0) this.skipped(index, 'slow', done.slow)
      if (done.overload > 0) this.skipped(index, 'overload', done.overload)
    }
  }

  /** The newest first. */
  of(topic: Topic): Recent[] {
    const store = this.#store
    if (!store) return []
    const place = this.#placeOf(topic)
    const found: Recent[] = []
    for (let back = 1; back <= EACH; back++) {
      const index = place * EACH + ((store.next[place]! - back) & (EACH - 1))
      if (store.topics[index] === topic) found.push(entryAt(store, index))
    }
    return found
  }

  /** Somebody asks for `topic`: for a while, no other topic pushes out what comes. */
  watch(topic: Topic, now: number): void {
    this.#store ??= new Store()
    const known = this.#watched.get(topic)
    this.#watched.delete(topic)
    if (!known && this.#watched.size === WATCHED) this.#unwatch(this.#watched.keys().next().value!)
    const place = known?.place ?? this.#freePlace()
    if (!known) this.#move(this.#store, topic, place)
    this.#watched.set(topic, { place, until: now + WATCHED_FOR })
    this.#lastTopic = undefined
  }

  #freePlace(): number {
    const taken = new Set([...this.#watched.values()].map(({ place }) => place))
    let place = PLACES
    while (taken.has(place)) place++
    return place
  }

  #unwatch(topic: Topic): void {
    const { place } = this.#watched.get(topic)!
    this.#watched.delete(topic)
    this.#lastTopic = undefined
    this.#move(this.#store!, topic, this.#placeOf(topic), place)
  }

  /** Moves what is known of a topic, the oldest first, so that it is in order there too. */
  #move(store: Store, topic: Topic, to: number, from = this.#placeOf(topic)): void {
    for (let back = EACH; back >= 1; back--) {
      const index = from * EACH + ((store.next[from]! - back) & (EACH - 1))
      if (store.topics[index] !== topic) continue
      const next = store.next[to]!
      const target = to * EACH + next
      store.next[to] = (next + 1) & (EACH - 1)
      store.at[target] = store.at[index]!
      store.topics[target] = topic
      store.kinds[target] = store.kinds[index]
      store.ids[target] = store.ids[index]
      store.counts.copyWithin(target * COUNTS, index * COUNTS, (index + 1) * COUNTS)
      store.topics[index] = undefined
    }
  }

  /** Begins a new period of counting, and forgets the one before the last. */
  rotate(now: number): void {
    this.#rotatedBefore = this.#rotatedAt
    this.#rotatedAt = now
    for (const [topic, { until }] of this.#watched) if (until <= now) this.#unwatch(topic)
    const store = this.#store
    if (!store) return
    const oldest = store.before
    store.before = store.present
    store.present = oldest.fill(0)
  }

  /** About how many publications came in this period and the one before it, for the topics that had most. */
  busiest(most: number): Busy[] {
    const store = this.#store
    if (!store || most === 0) return []
    const { present, before } = store
    const places = [...present.keys()].filter(place => present[place]! + before[place]! > 0)
    const total = (place: number) => present[place]! + before[place]!
    // No topic has more than its place.
    const candidates = places.sort((a, b) => total(b) - total(a)).slice(0, Math.max(4 * most, EACH))
    const busy = candidates.flatMap(place => this.#sharesOf(store, place, total(place)))
    return busy.sort((a, b) => b.publications - a.publications).slice(0, most)
  }

  /** A place counts all its publications together: its newest ones say how they are shared out. */
  #sharesOf(store: Store, place: number, total: number): Busy[] {
    const counts = new Map<Topic, number>()
    let known = 0
    for (let index = place * EACH; index < (place + 1) * EACH; index++) {
      const topic = store.topics[index]
      if (topic === undefined || store.at[index]! < this.#rotatedBefore) continue
      known++
      counts.set(topic, (counts.get(topic) ?? 0) + 1)
    }
    return [...counts].map(([topic, n]) => ({ topic, publications: Math.max(n, Math.round((total * n) / known)) }))
  }

  #placeOf(topic: Topic): number {
    if (topic === this.#lastTopic) return this.#lastPlace
    const watched = this.#watched.size > 0 ? this.#watched.get(topic) : undefined
    this.#lastTopic = topic
    this.#lastPlace = watched ? watched.place : hashOf(topic)
    return this.#lastPlace
  }
}

/** The place that a topic shares with others. */
function hashOf(topic: Topic): number {
  const { length } = topic
  let hash = length
  for (let i = Math.max(0, length - HASHED); i < length; i++) hash = (Math.imul(hash, 31) + topic.charCodeAt(i)) | 0
  return (hash ^ (hash >>> 11) ^ (hash >>> 22)) & (PLACES - 1)
}

function entryAt(store: Store, index: number): Recent {
  const kind = store.kinds[index]
  const isRejected = kind?.startsWith(REJECTED)
  const counts = REASONS.map((reason, i) => [reason, store.counts[index * COUNTS + 1 + i]!] as const)
  return {
    at: store.at[index]!,
    type: isRejected ? undefined : kind,
    id: store.ids[index],
    delivered: store.counts[index * COUNTS]!,
    skipped: Object.fromEntries(counts.filter(([, count]) => count > 0)),
    rejected: isRejected ? kind!.slice(REJECTED.length) : undefined,
  }
}
