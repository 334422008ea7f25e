import { ClientError, type Handlers } from './client-handlers.ts'
import type { Subscribed } from './client-options.ts'
import type { Positions } from './client-positions.ts'
import { type Answer, defer, lost } from './client-requests.ts'
import type { TopicState } from './protocol.ts'

/** A server has so many messages of one client in hand at once (`limits.pending`) and refuses more. */
const MAX_UNANSWERED = 16

/** Asks the server on the connection at hand. */
type Subscribe = (payload: { topic: string; since: string | undefined }) => Promise<Subscribed>

type Wanted = Answer<Subscribed> & { isAsked?: boolean }

/** The topics to hear: what was asked for, what the connection at hand answered, and how far each was heard. */
export class Topics {
  private positions: Positions
  private handlers: Handlers
  private subscribe: Subscribe
  /** A loss brings a new answer, not yet asked for. */
  private wanted = new Map<string, Wanted>()
  /** To be asked for when the server has answered some of those before; without an answer to give: for what was missed. */
  private queue = new Map<string, Wanted | undefined>()
  private unanswered = 0

  constructor(positions: Positions, handlers: Handlers, subscribe: Subscribe) {
    this.positions = positions
    this.handlers = handlers
    this.subscribe = subscribe
  }

  want(topic: string): Promise<Subscribed> {
    const answer = this.wanted.get(topic) ?? defer()
    this.wanted.set(topic, answer)
    return answer.promise
  }

  drop(topic: string): void {
    this.wanted.get(topic)?.reject(new ClientError('UNSUBSCRIBED', `${topic} is no longer wanted`))
    this.forget(topic)
  }

  forget(topic: string): void {
    this.wanted.delete(topic)
    this.queue.delete(topic)
    this.positions.forget(topic)
  }

  isWanted = (topic: string): boolean => this.wanted.has(topic)

  /** Asks for `topic` on the connection at hand, unless that was done or it has the topic anyway. */
  join(topic: string): void {
    const answer = this.wanted.get(topic)
    if (!answer || answer.isAsked) return
    answer.isAsked = true
    const state = this.positions.own(topic)
    if (state) answer.resolve({ ...state, topic })
    else this.enqueue(topic, answer)
  }

  /** A connection begins; `behind` are those of its own topics whose missed messages have yet to be asked for. */
  begin(behind: readonly string[]): void {
    for (const topic of behind) this.enqueue(topic)
    for (const topic of this.wanted.keys()) this.join(topic)
  }

  /** False for what is no answer about a topic; `isDecided` by the server, unasked. */
  answered(state: TopicState & { topic?: unknown }, isDecided: boolean): boolean {
    const { topic } = state
    if (typeof topic !== 'string') return false
    if (!this.positions.answered(topic, state, isDecided)) this.enqueue(topic)
    return true
  }

  /** The connection at hand is gone, and with it what was asked on it. */
  reset(): void {
    this.queue.clear()
    for (const [topic, { isAsked }] of this.wanted) if (isAsked) this.wanted.set(topic, defer())
  }

  end(): void {
    for (const answer of this.wanted.values()) answer.reject(lost())
    this.wanted.clear()
  }

  private enqueue(topic: string, answer?: Wanted): void {
    this.queue.set(topic, answer ?? this.queue.get(topic))
    this.askNext()
  }

  private askNext(): void {
    for (const [topic, answer] of this.queue) {
      if (this.unanswered >= MAX_UNANSWERED) return
      this.queue.delete(topic)
      this.ask(topic, answer)
    }
  }

  private async ask(topic: string, answer: Wanted | undefined): Promise<void> {
    this.unanswered++
    try {
      const subscribed = await this.subscribe({ topic, since: this.positions.ask(topic) })
      answer?.resolve(subscribed)
    } catch (error) {
      this.refused(topic, answer, error as ClientError)
    }
    this.unanswered--
    this.askNext()
  }

  private refused(topic: string, answer: Wanted | undefined, error: ClientError): void {
    if (!answer) return this.missed(topic, error)
    answer.reject(error)
    if (this.wanted.get(topic) !== answer) return
    if (error.code === 'CLOSED' || error.code === 'TIMEOUT') this.wanted.set(topic, defer())
    else this.forget(topic)
    this.handlers.report(error)
  }

  /** Nothing makes up for the messages that were let go meanwhile. */
  private missed(topic: string, error: ClientError): void {
    if (error.code === 'CLOSED') return
    this.positions.answered(topic, { recovered: false })
    this.handlers.emit('event gap', { topics: [topic], reason: 'overload' })
    this.handlers.report(error)
  }
}
