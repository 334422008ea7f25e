import { encodeEventId } from '../protocol/event-id.ts'
import type { Topic } from '../protocol/topic.ts'

/** What a message does to the position of a topic, for a client that has read it. */
export interface Step {
  topic: Topic
  /**
   * `message`: it is at `id` now. `head`: `id` is where the topic is, unless the client holds a position of its own. `lost`:
   * what it held cannot be recovered, a gap follows, and `id` is where the topic goes on then. `gap`: that gap or another one,
   * with `id` if it says where the topic goes on. `left`: it no longer has the topic.
   */
  what: 'message' | 'head' | 'lost' | 'gap' | 'left'
  id?: string | undefined
}

/** What one message of the server does to positions. */
export function stepsOf(message: unknown): readonly Step[] {
  const { type, payload, topic, id } = Object(message) as Record<string, unknown>
  if (type === 'welcome')
    return Object.entries(Object(Object(payload).topics)).flatMap(([of, state]) => begun(of, state))
  if (type === 'subscribed') return begun(Object(payload).topic, payload)
  if (type === 'unsubscribed') return topicsIn([Object(payload).topic]).map(topic => ({ topic, what: 'left' }))
  if (type === 'gap') return gapsOf(Object(payload))
  if (typeof topic !== 'string' || typeof id !== 'string') return []
  return [{ topic: topic as Topic, what: 'message', id }]
}

/** If everything follows, the head is no position yet: a lost connection would lose what has not arrived. */
function begun(topic: string, state: unknown): Step[] {
  const { id, recovered } = Object(state) as { id?: unknown; recovered?: unknown }
  if (typeof topic !== 'string' || typeof id !== 'string' || recovered === true) return []
  return [{ topic: topic as Topic, what: recovered === false ? 'lost' : 'head', id }]
}

function gapsOf({ topics, positions }: { topics?: unknown; positions?: unknown }): Step[] {
  return topicsIn(topics).map(topic => ({ topic, what: 'gap', id: Object(Object(positions)[topic]).id }))
}

/** An application may send what looks like a message of the node: what is no text is no topic, and may have none. */
function topicsIn(topics: unknown): Topic[] {
  return Array.isArray(topics) ? topics.filter((topic): topic is Topic => typeof topic === 'string') : []
}

/** Where a client is that has read everything that was written to its event stream. */
export class StreamPositions {
  readonly #held: Map<Topic, string>
  /** Where topics go on after a gap that is announced: a stream that breaks before the gap must bring it again. */
  readonly #next = new Map<Topic, string>()

  /** `since`: what the client held before. */
  constructor(since: ReadonlyMap<Topic, string>) {
    this.#held = new Map(since)
  }

  /** The id of the event that the client has read by then. */
  get id(): string {
    return encodeEventId(this.#held)
  }

  /** Whether a position changed. */
  take(steps: readonly Step[]): boolean {
    let isChanged = false
    for (const step of steps) isChanged = this.#take(step) || isChanged
    return isChanged
  }

  #take({ topic, what, id }: Step): boolean {
    if (what === 'left') {
      this.#next.delete(topic)
      return this.#held.delete(topic)
    }
    if (what === 'lost') {
      this.#next.set(topic, id!)
      return false
    }
    if (what === 'head' && this.#held.has(topic)) return false
    const next = what === 'gap' ? (id ?? this.#next.get(topic)) : id
    if (what !== 'head') this.#next.delete(topic)
    if (next === undefined || this.#held.get(topic) === next) return false
    this.#held.set(topic, next)
    return true
  }
}
