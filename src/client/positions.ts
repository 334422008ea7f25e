import type { TopicState } from '../protocol/messages.ts'
import { isCovered, type Position } from '../protocol/position.ts'

/** With the rest of the request line it has to pass proxies, which take 8 KB. */
const MAX_IN_URL = 4_000

interface Place {
  /** Everything up to here was handled, or told as lost: what a return goes on from. */
  id?: string | undefined
  /** What was last given to the handlers. */
  last?: Position | undefined
  /** The server was asked on this connection for what came after `id`. */
  isAsked?: boolean
  /** Live messages run ahead of what was missed: the recorded ones are let go, since the answer brings them again. */
  isAhead?: boolean
  /** One was let go, which may be later than the place that the server is about to name. */
  hasLetGo?: boolean
  /** How many of this connection wait for an answer: the last of them decides. */
  questions: number
  /** Given by the application, which may subscribe long after the first welcome. */
  isRestored?: boolean
  /** What the welcome said of a topic that the connection has by itself. Any may be such until there was a welcome. */
  own?: TopicState | undefined
  isHeld: boolean
}

/** How far the client has come in each topic that it holds or held on the connection before. */
export class Positions {
  private places = new Map<string, Place>()

  constructor(restored: object | null | undefined) {
    for (const [topic, id] of Object.entries(restored ?? {}))
      if (typeof id === 'string') this.places.set(topic, { id, isHeld: true, isRestored: true, questions: 0, own: {} })
  }

  get ids(): Record<string, string> {
    const held = [...this.places].filter(([, place]) => (place.isHeld || place.isRestored) && place.id)
    return Object.fromEntries(held.map(([topic, { id }]) => [topic, id!]))
  }

  /** A connection begins. JSON for its URL, of as many topics as it may have by itself and as fit; empty for none. */
  forUrl(): string {
    let text = ''
    for (const [topic, place] of [...this.places].sort(([a], [b]) => rank(a) - rank(b))) {
      const longer = `${text},${JSON.stringify(topic)}:${JSON.stringify(place.id)}`
      place.isAsked = !!place.own && !!place.id && encodeURIComponent(longer).length < MAX_IN_URL
      if (place.isAsked) text = longer
    }
    return text && `{${text.slice(1)}}`
  }

  /** Takes what a welcome says; returns the topics of its own whose missed messages have yet to be asked for. */
  welcomed(topics: unknown, isWanted: (topic: string) => boolean): string[] {
    for (const [topic, place] of this.places) {
      const isHeld = isWanted(topic)
      // Those that the server gave the connection before are kept for one more: it may give them again.
      if (!isHeld && !place.isHeld && !place.isRestored) this.places.delete(topic)
      place.isHeld = isHeld
      place.own = undefined
      // The server may send live messages of a topic before it says where that stands.
      place.isAhead = place.id !== undefined
      place.hasLetGo = false
      place.questions = 0
    }
    const own = Object.entries(Object(topics))
    return own.flatMap(([topic, state]) => {
      const place = this.place(topic)
      place.own = Object(state) as TopicState
      return this.answered(topic, place.own) ? [] : topic
    })
  }

  /** What the welcome said of a topic that this connection has anyway. */
  own(topic: string): TopicState | undefined {
    return this.places.get(topic)?.own
  }

  /** The `since` of a subscription that is about to be asked for. */
  ask(topic: string): string | undefined {
    const place = this.place(topic)
    place.isHeld = true
    place.isAsked = place.id !== undefined
    place.questions++
    return place.id
  }

  /** Whether the answer to a question about `topic` is under way. */
  isAsking(topic: string): boolean {
    return !!this.places.get(topic)?.questions
  }

  /** A question goes without an answer, and what was missed has still to be asked for. */
  failed(topic: string): void {
    const place = this.places.get(topic)
    if (!place) return
    place.isAsked = false
    close(place)
  }

  /**
   * The server says where `topic` stands, unasked when `isNew`. False when what was missed has yet to be asked for: until
   * it is, live messages wait.
   */
  answered(topic: string, { id, recovered }: TopicState, isNew = false): boolean {
    const place = isNew ? this.place(topic) : this.places.get(topic)
    // What comes for a topic that was left meanwhile is nobody's.
    if (!place) return true
    const isAsked = place.isAsked && !isNew
    place.isHeld = true
    place.isRestored = false
    if (!isNew) close(place)
    // It answers a question from before there was anything to go on from: what was missed comes with a later answer.
    if (isAsked && place.questions && recovered === undefined) return true
    const isElsewhere = id !== place.id || !!place.hasLetGo
    place.isAhead = place.id !== undefined && !isAsked && recovered === undefined && isElsewhere
    if (place.isAhead) return false
    place.hasLetGo = false
    // Where everything follows, `id` is the head: a break in the middle would lose what had not come yet.
    if (recovered === false || (recovered === undefined && !isAsked)) this.move(place, id)
    return true
  }

  /** Only the position given goes for a topic: messages that were lost will not come. */
  lost(positions: unknown): void {
    for (const [topic, position] of Object.entries(Object(positions))) {
      const place = this.places.get(topic)
      if (place) this.move(place, Object(position).id)
    }
  }

  /** Whether a message is for the handlers: not one that was given to them before, or that comes again in its turn. */
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
    return true
  }

  forget(topic: string): void {
    this.places.delete(topic)
  }

  private place(topic: string): Place {
    const place = this.places.get(topic) ?? { isHeld: true, questions: 0 }
    this.places.set(topic, place)
    return place
  }

  /** Another history may number its messages from the start. */
  private move(place: Place, id: unknown): void {
    if (typeof id === 'string') place.id = id
    place.last = undefined
  }
}

/** An answer that comes after its time was up was counted then. */
function close(place: Place): void {
  place.questions = Math.max(0, place.questions - 1)
}

/** The topics of the person first. */
function rank(topic: string): number {
  return topic.startsWith('channel:') ? 1 : 0
}
