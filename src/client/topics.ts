import type { TopicState } from '../protocol/messages.ts'
import { topicProblem } from '../protocol/topic.ts'
import { ClientError, type Handlers } from './handlers.ts'
import type { Subscribed } from './options.ts'
import type { Positions, Question } from './positions.ts'
import { type Answer, defer, lost } from './requests.ts'

/** A server handles a limited number of messages of a client at a time (`limits.pending`) and refuses more. */
const MAX_UNANSWERED = 16
const MAX_DELAY = 30_000
// Another attempt would get the same answer. Other refusals are temporary: authorize() failed once, or load is high.
const FINAL = /^PUSH_ERR_(FORBIDDEN|TOPIC|BAD_MESSAGE|UNSUBSCRIBED)$/
/** A list that was taken for one name: a server refuses the whole request of an event stream. */
const SEVERAL = /,(channel|user|connection):/

/** Asks the server on the present connection. */
type Subscribe = (payload: { topic: string } & Question) => Promise<Subscribed>

/** `isRenewed`: it was asked for before, and the application still wants it. */
type Wanted = Answer<Subscribed> & { isAsked?: boolean; isRenewed?: boolean }

/** The wanted topics, and what was asked for and answered on the present connection. */
export class Topics {
  private positions: Positions
  private handlers: Handlers
  private subscribe: Subscribe
  /** Asks again over an event stream, which needs another one. */
  private reopen: () => void
  /** When the connection is lost, each topic gets a new promise that is not asked for yet. */
  readonly wanted = new Map<string, Wanted>()
  /** Nothing can be asked over an event stream: it begins with all topics that it gets, and says of the others why not. */
  canAsk = true
  /** Topics to ask for when earlier ones are answered. Without a promise only the missed messages are asked for. */
  private queue = new Map<string, Wanted | undefined>()
  private unanswered = 0
  /** One timer for all refused topics, which are asked for again together. */
  private timer: ReturnType<typeof setTimeout> | undefined
  private refusals = 0

  constructor(positions: Positions, handlers: Handlers, subscribe: Subscribe, reopen: () => void) {
    this.positions = positions
    this.handlers = handlers
    this.subscribe = subscribe
    this.reopen = reopen
  }

  /** Those that an event stream can name. The others are refused as a server refuses them over a WebSocket. */
  forStream(): string[] {
    for (const topic of [...this.wanted.keys()]) {
      const problem = topicProblem(topic) ?? (SEVERAL.test(topic) ? `${topic} is several topics` : undefined)
      if (problem) this.refuse(topic, new ClientError('PUSH_ERR_TOPIC', problem))
    }
    return [...this.wanted.keys()]
  }

  want(topic: string, last?: number): Promise<Subscribed> {
    const known = this.wanted.get(topic)
    const answer = known ?? defer()
    if (!known && last !== undefined) this.positions.begin(topic, last)
    this.wanted.set(topic, answer)
    return answer.promise
  }

  forget(topic: string): void {
    this.wanted.get(topic)?.reject(new ClientError('UNSUBSCRIBED', `${topic} was unsubscribed`))
    this.wanted.delete(topic)
    this.queue.delete(topic)
    this.positions.forget(topic)
  }

  /** The server unsubscribed the topic. If a question about it is under way, the answer to that decides. */
  left(topic: string): void {
    if (this.isWanted(topic) && this.positions.isAsking(topic)) return
    this.forget(topic)
    if (typeof topic === 'string') this.handlers.emit('event unsubscribed', { topic })
  }

  isWanted = (topic: string): boolean => this.wanted.has(topic)

  /** Asks for `topic` on the present connection, unless that was done or the connection has it without subscribing. */
  join(topic: string): void {
    const answer = this.wanted.get(topic)
    if (!answer || answer.isAsked) return
    const state = this.positions.own(topic)
    const isGiven = state && !this.positions.isToBegin(topic)
    // Over an event stream it waits for the next one, or for an error.
    if (!isGiven && !this.canAsk) return
    answer.isAsked = true
    if (isGiven) answer.resolve({ ...state, topic })
    else this.enqueue(topic, answer)
  }

  /** The connection was welcomed. `behind`: topics of the welcome whose missed messages must still be asked for. */
  begin(behind: readonly string[]): void {
    if (this.canAsk) for (const topic of behind) this.enqueue(topic)
    else this.missed(behind)
    this.joinAll()
    if (!this.isMissing()) this.refusals = 0
  }

  /** False if it is not an answer about a topic. `isDecided`: the server sent it unasked. */
  answered(state: TopicState & { topic?: unknown }, isDecided: boolean): boolean {
    const { topic } = state
    if (typeof topic !== 'string') return false
    if (!this.positions.answered(topic, state, isDecided)) this.enqueue(topic)
    return true
  }

  /** The server does not give the topic to this event stream. */
  refuse(topic: string, error: ClientError): void {
    this.refused(topic, this.wanted.get(topic), error)
  }

  /** The connection is lost: nothing that was asked on it will be answered. */
  reset(): void {
    this.queue.clear()
    clearTimeout(this.timer)
    this.timer = undefined
    // Who asks by opening another event stream resets with each attempt.
    if (this.canAsk) this.refusals = 0
    for (const [topic, answer] of this.wanted) {
      if (!answer.isAsked) continue
      // A topic in the queue has no request that could fail, so it is rejected here.
      answer.reject(lost())
      this.renew(topic)
    }
  }

  end(): void {
    clearTimeout(this.timer)
    for (const answer of this.wanted.values()) answer.reject(lost())
    this.wanted.clear()
  }

  private isMissing(): boolean {
    return [...this.wanted.keys()].some(topic => !this.positions.own(topic))
  }

  private joinAll(): void {
    for (const topic of this.wanted.keys()) this.join(topic)
  }

  private enqueue(topic: string, answer?: Wanted): void {
    if (!this.canAsk) return this.missed([topic])
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
      const subscribed = await this.subscribe({ topic, ...this.positions.ask(topic) })
      answer?.resolve(subscribed)
    } catch (error) {
      this.refused(topic, answer, error as ClientError)
    }
    this.unanswered--
    this.askNext()
  }

  private refused(topic: string, answer: Wanted | undefined, error: ClientError): void {
    if (!answer) {
      // If the connection is lost, the next one asks.
      if (error.code === 'CLOSED') return
      this.missed([topic])
      return this.handlers.report(error)
    }
    answer.reject(error)
    if (this.wanted.get(topic) !== answer) return
    this.positions.failed(topic)
    const isUnanswered = error.code === 'CLOSED' || error.code === 'TIMEOUT'
    if (isUnanswered || (answer.isRenewed && !FINAL.test(error.code))) this.renew(topic)
    else this.giveUp(topic)
    // If the connection is lost, the next welcome does it.
    if (error.code !== 'CLOSED' && this.isWanted(topic)) this.joinLater()
    this.handlers.report(error)
  }

  /** A topic that the client has without subscribing keeps its position; what was ignored meanwhile is asked for. */
  private giveUp(topic: string): void {
    if (!this.positions.own(topic)) return this.forget(topic)
    this.wanted.delete(topic)
    if (this.positions.isBehind(topic)) this.enqueue(topic)
  }

  private renew(topic: string): void {
    this.wanted.set(topic, { ...defer<Subscribed>(), isRenewed: true })
  }

  private joinLater(): void {
    if (this.timer !== undefined) return
    const again = () => {
      this.timer = undefined
      if (!this.canAsk && this.isMissing()) this.reopen()
      else this.joinAll()
    }
    // At random, so that many clients do not ask together; at least half, because the cause of the refusal may last.
    const most = Math.min(MAX_DELAY, 1000 * 2 ** this.refusals++)
    this.timer = setTimeout(again, ((1 + Math.random()) / 2) * most)
  }

  /** The messages that were ignored meanwhile will not come again: tells a gap. */
  private missed(topics: readonly string[]): void {
    if (topics.length === 0) return
    for (const topic of topics) this.positions.answered(topic, { recovered: false })
    this.handlers.tell('gap', { topics, reason: 'overload' })
  }
}
