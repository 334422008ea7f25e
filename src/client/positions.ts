import type { TopicState, Welcome } from '../protocol/messages.ts'
import { isCovered, type Position } from '../protocol/position.ts'

/** What the server is asked of the history of a topic. */
export interface Question {
  since?: string | undefined
  last?: number | undefined
}

/** So many of its own publications a client remembers for each topic. */
const MAX_SAID = 100

interface Place {
  /** Everything up to here was handled or told as a gap: recovery continues from it. */
  id?: string | undefined
  /** Where the topic goes on after a gap that is announced. A connection that breaks before the gap must bring it again. */
  next?: string | undefined
  /** The last message that was given to the handlers. */
  last?: Position | undefined
  /** The server was asked on this connection for the messages after `id`. */
  isAsked?: boolean
  /** Live messages come before the missed ones: recorded ones are ignored, because the answer brings them again. */
  isAhead?: boolean
  /** A message was ignored that may be later than the position that the server is about to send. */
  hasLetGo?: boolean
  /** How many questions on this connection wait for an answer: the last answer decides. */
  questions: number
  /** How many of the newest messages are wanted, until the first message comes. */
  first?: number | undefined
  /** They were asked for on this connection: `id` is not where they begin. */
  isBeginning?: boolean
  /** What this client published itself and wants no echo of: the next connection may bring it all the same. */
  said?: Set<string>
  /** From the option `since`: the application may subscribe long after the first welcome. */
  isRestored?: boolean
  /** From that option, whatever else was kept of somebody else. */
  isGiven?: boolean
  /** What the welcome said about a topic that the connection has without subscribing. Before one, any may be. */
  own?: TopicState | undefined
  isHeld: boolean
}

interface Kept {
  kept?: object | undefined
  owner?: string | null | undefined
  moved?: () => void
}

/** The positions of the topics that the client has, or had on the connection before. */
export class Positions {
  private places = new Map<string, Place>()
  /** An older server would refuse the question. */
  private hasHistory = true
  /** Whose positions they are: undefined as long as nobody has said. */
  private owner: string | null | undefined
  private moved: () => void

  /** `moved` is called when `ids` may have changed. `kept`: of an earlier client, whose user was `owner` if that is known. */
  constructor(given: object | null | undefined, { kept, owner, moved = () => {} }: Kept = {}) {
    this.owner = owner
    this.moved = moved
    this.restore(kept, false)
    // What the application says comes first.
    this.restore(given, true)
  }

  private restore(ids: object | null | undefined, isGiven: boolean): void {
    for (const [topic, id] of Object.entries(ids ?? {})) {
      const place = { isHeld: true, isRestored: true, isGiven, questions: 0, own: {} }
      if (typeof id === 'string') this.places.set(topic, { id, ...place })
    }
  }

  get user(): string | null | undefined {
    return this.owner
  }

  /** Those that were restored and that nobody has asked for since come last. */
  get ids(): Record<string, string> {
    const held = [...this.places].filter(([, place]) => (place.isHeld || place.isRestored) && place.id)
    held.sort(([, a], [, b]) => Number(a.isRestored ?? false) - Number(b.isRestored ?? false))
    return Object.fromEntries(held.map(([topic, { id }]) => [topic, id!]))
  }

  /**
   * For each new connection: JSON for its request, with as many topics as fit into `room`, percent-encoded; empty if there is
   * none. Of channels, only those that a connection has without subscribing, or those of `wanted`, which an event stream names.
   */
  forRequest(room: number, wanted?: readonly string[]): string {
    const named = new Set(wanted)
    let text = ''
    let length = 0
    for (const [topic, place] of [...this.places].sort(([a], [b]) => rank(a) - rank(b))) {
      const entry = `,${JSON.stringify(topic)}:${JSON.stringify(place.id)}`
      const longer = length + encodeURIComponent(entry).length
      const isNamed = named.has(topic) || (wanted !== undefined && rank(topic) === 0)
      place.isAsked = (isNamed || !!place.own) && !!place.id && longer < room
      if (!place.isAsked) continue
      text += entry
      length = longer
    }
    return text && `{${text.slice(1)}}`
  }

  /** Reads the topics of a welcome. Returns those whose missed messages must still be asked for. */
  welcomed({ topics, user, features }: Partial<Welcome>, isWanted: (topic: string) => boolean): string[] {
    this.hasHistory = Array.isArray(features) && features.includes('history')
    const isOther = this.owner !== undefined && this.owner !== user
    if (isOther) this.places.delete(`user:${this.owner}`)
    this.owner = user
    for (const [topic, place] of this.places) {
      const isHeld = isWanted(topic)
      // Topics that the server gave the last connection are kept for one more: it may give them again.
      if (!isHeld && !place.isHeld && !place.isRestored) this.places.delete(topic)
      place.isHeld = isHeld
      place.own = place.next = undefined
      // The server may send live messages of a topic before it sends the position.
      place.isAhead = place.id !== undefined
      place.hasLetGo = place.isBeginning = false
      place.questions = 0
    }
    const own = Object.entries(Object(topics))
    const behind = own.flatMap(([topic, state]) => {
      const place = this.place(topic)
      place.own = Object(state) as TopicState
      return this.answered(topic, place.own) ? [] : topic
    })
    if (isOther) this.forgetRestored()
    this.moved()
    return behind
  }

  /** What the welcome said about a topic that this connection has without subscribing. */
  own(topic: string): TopicState | undefined {
    return this.places.get(topic)?.own
  }

  /** The next subscription to `topic` shall bring the newest messages, unless one came before. */
  begin(topic: string, last: number): void {
    const place = this.place(topic)
    if (!place.last) place.first = last
  }

  /** Whether the newest messages of a topic are wanted that the connection has without subscribing. */
  isToBegin(topic: string): boolean {
    return this.hasHistory && this.places.get(topic)?.first !== undefined
  }

  /** The newest messages are refused. True if others were ignored meanwhile, which must still be asked for. */
  isBehind(topic: string): boolean {
    const place = this.place(topic)
    place.first = undefined
    return !!place.isAhead
  }

  /** The question of a subscription that is about to be sent. */
  ask(topic: string): Question {
    const place = this.place(topic)
    place.isHeld = true
    place.questions++
    if (!this.hasHistory) place.first = undefined
    const last = place.first
    // Without a message, the id is that of a welcome: the newest messages come before it.
    place.isBeginning = last !== undefined && !place.isRestored
    place.isAsked = place.id !== undefined && !place.isBeginning
    if (place.isBeginning) place.isAhead = true
    return { since: place.isAsked ? place.id : undefined, last }
  }

  /** Whether a question about `topic` waits for its answer. */
  isAsking(topic: string): boolean {
    return !!this.places.get(topic)?.questions
  }

  /** A question got no answer: the missed messages must still be asked for. */
  failed(topic: string): void {
    const place = this.places.get(topic)
    if (!place) return
    place.isAsked = false
    if (place.isBeginning) {
      place.isBeginning = false
      place.isAhead = !!place.hasLetGo
    }
    close(place)
  }

  /**
   * The server sends the position of `topic`, unasked if `isNew`. False if the missed messages must still be asked for:
   * until then live messages are ignored.
   */
  answered(topic: string, { id, seq, recovered }: TopicState, isNew = false): boolean {
    const place = isNew ? this.place(topic) : this.places.get(topic)
    // The topic was left meanwhile.
    if (!place) return true
    const isAsked = place.isAsked && !isNew
    // The question had `last` as well, or everything follows: the server has said what comes.
    if (place.isRestored && recovered !== undefined && (recovered || place.questions)) place.first = undefined
    place.isHeld = true
    place.isRestored = false
    if (!isNew) close(place)
    if (place.isBeginning) return isNew || this.begun(place, id, seq)
    // It answers a question that had no `since`: the missed messages come with a later answer.
    if (isAsked && place.questions && recovered === undefined) return true
    const isElsewhere = id !== place.id || !!place.hasLetGo
    place.isAhead = place.id !== undefined && !isAsked && recovered === undefined && isElsewhere
    if (place.isAhead) return false
    place.hasLetGo = false
    // If everything follows, `id` is the head: a lost connection would lose what has not arrived yet.
    if (recovered === false) {
      place.next = typeof id === 'string' ? id : undefined
      place.last = undefined
    } else if (recovered === undefined && !isAsked) this.move(place, id)
    return true
  }

  /** A gap was told: continues from its positions, or from that of the answer before it: the missed messages will not come. */
  lost(topics: readonly string[], positions: unknown): void {
    for (const topic of topics) {
      const place = this.places.get(topic)
      const id = Object(Object(positions)[topic]).id ?? place?.next
      if (place && id !== undefined) this.move(place, id)
    }
  }

  /** Whether a message is for the handlers: not if they have had it, or if it will come again in order. */
  take({ topic, id, seq }: { topic?: string; id?: unknown; seq?: unknown }): boolean {
    const place = this.places.get(topic!)
    if (!place || typeof id !== 'string') return true
    if (place.isAhead) {
      place.hasLetGo = true
      return false
    }
    const position = { id, seq: Number(seq) }
    if (place.last && isCovered(position, place.last)) return false
    place.id = id
    place.last = position
    place.first = place.next = undefined
    this.moved()
    return !place.said?.delete(id)
  }

  /** The next time that `id` comes it is not for the handlers. */
  said(topic: string, id: string): void {
    const place = this.places.get(topic)
    if (!place) return
    place.said ??= new Set()
    place.said.add(id)
    if (place.said.size > MAX_SAID) place.said.delete(place.said.values().next().value!)
  }

  forget(topic: string): void {
    this.places.delete(topic)
    this.moved()
  }

  /** Another user begins where the topic is, not where somebody else left it. */
  private forgetRestored(): void {
    for (const [topic, place] of this.places) if (place.isRestored && !place.isGiven) this.places.delete(topic)
  }

  /** The newest messages follow. Until one is here, the head is no position to continue from, unless there are none. */
  private begun(place: Place, id: unknown, seq: unknown): true {
    place.isBeginning = place.isAhead = place.hasLetGo = false
    place.last = undefined
    if (seq === 0) {
      place.first = undefined
      this.move(place, id)
    }
    return true
  }

  private place(topic: string): Place {
    const place = this.places.get(topic) ?? { isHeld: true, questions: 0 }
    this.places.set(topic, place)
    return place
  }

  /** Forgets `last`, because the next message may belong to another history with lower numbers. */
  private move(place: Place, id: unknown): void {
    if (typeof id === 'string') place.id = id
    place.last = place.next = undefined
    this.moved()
  }
}

/** Not below 0: an answer that comes after its timeout was counted then. */
function close(place: Place): void {
  place.questions = Math.max(0, place.questions - 1)
}

/** The topics of the user come first. */
function rank(topic: string): number {
  return topic.startsWith('channel:') ? 1 : 0
}
