import type { TopicState } from '../protocol/messages.ts'
import { ClientError, type Handlers } from './handlers.ts'
import type { Subscribed } from './options.ts'
import type { Positions } from './positions.ts'
import { type Answer, defer, lost } from './requests.ts'

/** A server has so many messages of one client in hand at once (`limits.pending`) and refuses more. */
const MAX_UNANSWERED = 16
const MAX_DELAY = 30_000
// Asking again would bring the same answer. Any other refusal passes: of authorize() that failed once, or of a crowd.
const FINAL = /^PUSH_ERR_(FORBIDDEN|TOPIC|BAD_MESSAGE|UNSUBSCRIBED)$/

/** Asks the server on the connection at hand. */
type Subscribe = (payload: { topic: string; since: string | undefined }) => Promise<Subscribed>

/** `isRenewed`: it was asked for before, and the application was not told that it is given up. */
type Wanted = Answer<Subscribed> & { isAsked?: boolean; isRenewed?: boolean }

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
  /** One for all that were refused: they are asked for again together. */
  private timer: ReturnType<typeof setTimeout> | undefined
  private refusals = 0

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

  forget(topic: string): void {
    this.wanted.get(topic)?.reject(new ClientError('UNSUBSCRIBED', `${topic} is no longer wanted`))
    this.wanted.delete(topic)
    this.queue.delete(topic)
    this.positions.forget(topic)
  }

  /** The server's own decision, unless it crossed a question about the topic: then the answer to that says what holds. */
  left(topic: string): void {
    if (!this.isWanted(topic) || !this.positions.isAsking(topic)) this.forget(topic)
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
    this.joinAll()
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
    clearTimeout(this.timer)
    this.timer = undefined
    this.refusals = 0
    for (const [topic, answer] of this.wanted) {
      if (!answer.isAsked) continue
      // One that waits in the queue has no request that would fail.
      answer.reject(lost())
      this.renew(topic)
    }
  }

  end(): void {
    clearTimeout(this.timer)
    for (const answer of this.wanted.values()) answer.reject(lost())
    this.wanted.clear()
  }

  private joinAll(): void {
    for (const topic of this.wanted.keys()) this.join(topic)
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
    this.positions.failed(topic)
    const isUnanswered = error.code === 'CLOSED' || error.code === 'TIMEOUT'
    if (isUnanswered || (answer.isRenewed && !FINAL.test(error.code))) this.renew(topic)
    else this.forget(topic)
    // Without a connection the next welcome does it.
    if (error.code !== 'CLOSED' && this.isWanted(topic)) this.joinLater()
    this.handlers.report(error)
  }

  private renew(topic: string): void {
    this.wanted.set(topic, { ...defer<Subscribed>(), isRenewed: true })
  }

  private joinLater(): void {
    if (this.timer !== undefined) return
    const again = () => {
      this.timer = undefined
      this.joinAll()
    }
    // Spread, so that a crowd does not ask again together; half of it at least, since what refused just now may still.
    const most = Math.min(MAX_DELAY, 1000 * 2 ** this.refusals++)
    this.timer = setTimeout(again, ((1 + Math.random()) / 2) * most)
  }

  /** Nothing makes up for the messages that were let go meanwhile. */
  private missed(topic: string, error: ClientError): void {
    if (error.code === 'CLOSED') return
    this.positions.answered(topic, { recovered: false })
    this.handlers.tell('gap', { topics: [topic], reason: 'overload' })
    this.handlers.report(error)
  }
}
