import { RareLine } from '../../broker/rare-line.ts'
import type { QueuedMessage, StreamQueue } from '../../broker/stream-queue.ts'
import { within } from '../../broker/waiting.ts'
import type { IngressParts, OpenIngress } from '../ingress.ts'
import type { Verdict } from '../intake.ts'
import type { StreamsIngressOptions } from './options.ts'
import { Patience, pauses } from './patience.ts'

/** Milliseconds between two looks at how much waits and what can be removed. */
const TEND_INTERVAL = 2000

/** How often a node says within `claimAfter` that it is at work: two of three signs of life may fail. */
const SIGNS = 3

/** Milliseconds between two looks at what other nodes have left: one that closes gives back what it did not finish. */
const CLAIM_INTERVAL = 1000

/** With `strictOrder`: milliseconds between two questions of a node that does not lead. */
const LEAD_INTERVAL = 1000

type Failure = Extract<Verdict, { outcome: 'failed' }>

/** What is to be done with messages that were tried. */
interface Sorted {
  done: QueuedMessage[]
  dead: { message: QueuedMessage; code: string; reason: string }[]
  again: QueuedMessage[]
  /** Those that are done again for no reason of their own. */
  excused: string[]
  failure: Failure | undefined
}

/**
 * Reads, publishes, acknowledges, in this order, and takes no more before that is finished. So never more than `count`
 * messages are this node's, and those of one topic are published in the order of the stream.
 */
export class StreamRoad implements OpenIngress {
  readonly #queue: StreamQueue
  readonly #options: StreamsIngressOptions
  readonly #parts: IngressParts
  readonly #died: RareLine
  readonly #patience: Patience
  readonly #timers: NodeJS.Timeout[]
  readonly #ended: Promise<void>
  /** What this node has taken and not finished, by id. */
  readonly #held = new Map<string, QueuedMessage>()
  #claimAt = 0
  #lag: number | undefined
  /** With `strictOrder`: this node is the one that reads. */
  #isLeading = false
  /** With `strictOrder`: until then nobody else leads. */
  #leadsUntil = Number.POSITIVE_INFINITY
  /** With `strictOrder`: it leads since lately, and others may have left messages, which are older than what is new. */
  #isHeir = true
  /** With `strictOrder`: messages may be this node's of which it does not know, because an answer did not come. */
  #isUnsure = false
  #isTending = false
  #isKeeping = false

  constructor(queue: StreamQueue, options: StreamsIngressOptions, parts: IngressParts) {
    this.#queue = queue
    this.#options = options
    this.#parts = parts
    const { log } = parts
    const ingress = options.name
    this.#patience = new Patience(parts, ingress)
    this.#died = new RareLine((fields, more) =>
      log.warn({ ingress, ...fields, more }, 'push: messages of an ingress are dead letters now'),
    )
    this.#timers = [
      setInterval(() => void this.#tend(), TEND_INTERVAL).unref(),
      setInterval(() => void this.#keep(), options.claimAfter / SIGNS).unref(),
    ]
    this.#ended = this.#run()
  }

  get lag(): number | undefined {
    return this.#lag
  }

  get problem(): string | undefined {
    return this.#patience.problem
  }

  async close(): Promise<void> {
    this.#patience.end()
    for (const timer of this.#timers) clearInterval(timer)
    this.#queue.stopReading()
    await within(this.#parts.closeTimeout, this.#ended)
    await this.#queue.close()
  }

  get #isClosing(): boolean {
    return this.#patience.isOver
  }

  async #run(): Promise<void> {
    while (!this.#isClosing) await this.#patience.persist(() => this.#round())
  }

  async #round(): Promise<void> {
    const { strictOrder } = this.#options
    const messages = await (strictOrder ? this.#nextInOrder() : this.#next())
    this.#patience.clear()
    for (const message of messages) this.#held.set(message.id, message)
    if (!strictOrder) return this.#handle(messages)
    for (const { id } of messages) {
      await this.#affirm()
      const message = this.#held.get(id)
      if (message && !this.#isClosing) await this.#handle([message])
    }
  }

  /** What nodes that are gone have left comes first: it is older. */
  async #next(): Promise<QueuedMessage[]> {
    const { count, claimAfter } = this.#options
    const now = performance.now()
    if (now < this.#claimAt) return this.#queue.read(count)
    const claimed = await this.#queue.claim(count)
    if (claimed.length < count) this.#claimAt = now + Math.min(CLAIM_INTERVAL, claimAfter / 2)
    return claimed
  }

  /** Only the leader has any. It begins with what the one before it left, and with what was lost on the way to itself. */
  async #nextInOrder(): Promise<QueuedMessage[]> {
    const { count, claimAfter } = this.#options
    if (!this.#isLeading) await this.#lead()
    if (!this.#isLeading) {
      await this.#patience.wait(Math.min(LEAD_INTERVAL, claimAfter / SIGNS))
      return []
    }
    const isLeft = this.#isHeir || this.#isUnsure
    this.#isHeir = false
    this.#isUnsure = true
    const messages = await (isLeft ? this.#queue.claim(count, 'all') : this.#queue.read(count))
    // Another node led meanwhile, and what it left is older.
    if (this.#isHeir) return []
    this.#isUnsure = isLeft && messages.length > 0
    return messages
  }

  async #lead(): Promise<void> {
    const asked = performance.now()
    const answer = await this.#queue.lead()
    this.#isLeading = answer !== 'no'
    this.#leadsUntil = asked + this.#options.claimAfter
    if (answer === 'still') return
    // Another node leads or led meanwhile, and has taken what this one held.
    this.#isHeir = true
    this.#held.clear()
  }

  /** Goes on with what it holds only while it leads: it may have stood still, or waited for Redis, for longer than that. */
  async #affirm(): Promise<void> {
    if (this.#held.size === 0 || performance.now() < this.#leadsUntil) return
    await this.#patience.persist(() => this.#lead())
  }

  /** Tries messages until none is left, or this node closes. */
  async #handle(messages: readonly QueuedMessage[]): Promise<void> {
    this.#patience.clear()
    let open = messages
    for (const pause of pauses()) {
      if (open.length === 0) break
      const verdicts = await Promise.all(open.map(message => this.#judge(message)))
      const { done, dead, again, excused, failure } = this.#sort(open, verdicts)
      await this.#patience.persist(() => this.#finish(done))
      for (const letter of dead) await this.#patience.persist(() => this.#bury(letter))
      if (failure) this.#patience.tell(failure.message)
      await this.#excuse(excused)
      if (again.length > 0) await this.#patience.wait(pause)
      await this.#affirm()
      if (this.#isClosing) return
      // Another node may have claimed some of them while this one did nothing.
      open = again.flatMap(({ id }) => this.#held.get(id) ?? [])
    }
    this.#patience.clear()
  }

  /** A message that ended so many nodes is not given to this one. */
  #judge(message: QueuedMessage): Promise<Verdict> | Verdict {
    const { id, body, tries } = message
    if (tries > this.#options.tries) {
      const reason = `${tries - 1} nodes took it and did not finish it`
      return { outcome: 'failed', code: 'PUSH_ERR_INTERNAL', message: reason, isTemporary: false }
    }
    if (!body) return this.#refuseWithoutBody(message)
    return this.#parts.intake.take(body, this.#keyOf(id))
  }

  /** Another stream may have an entry with the same id. */
  #keyOf(id: string): string {
    return `${this.#options.stream}/${id}`
  }

  async #refuseWithoutBody({ id }: QueuedMessage): Promise<Verdict> {
    const verdict = await this.#parts.intake.take('', this.#keyOf(id))
    const message = `the entry has no field body: XADD … * body '{"to":"user:42","type":"notice"}'`
    return verdict.outcome === 'refused' ? { ...verdict, message } : verdict
  }

  #sort(messages: readonly QueuedMessage[], verdicts: readonly Verdict[]): Sorted {
    const sorted: Sorted = { done: [], dead: [], again: [], excused: [], failure: undefined }
    for (const [i, message] of messages.entries()) {
      const verdict = verdicts[i]!
      if (verdict.outcome === 'published') sorted.done.push(message)
      else if (this.#isDead(message, verdict)) {
        sorted.dead.push({ message, code: verdict.code, reason: verdict.message })
      } else {
        sorted.again.push(message)
        const failure = verdict as Failure
        if (failure.isTemporary) sorted.excused.push(message.id)
        sorted.failure ??= failure
      }
    }
    return sorted
  }

  /** Counts the try. */
  #isDead(message: QueuedMessage, verdict: Exclude<Verdict, { outcome: 'published' }>): boolean {
    if (verdict.outcome === 'refused') return true
    // Another node has it by now: to count the try would take it back from there, and its end is decided there.
    if (!this.#held.has(message.id)) return false
    if (verdict.isTemporary) return false
    if (message.tries >= this.#options.tries) return true
    const tries = message.tries + 1
    this.#held.set(message.id, { ...message, tries })
    // If that fails, the message is tried a little more often.
    this.#queue.noteTries(message.id, tries).catch(() => {})
    return false
  }

  /** If this node is killed or cut off now, that is no try of these. */
  async #excuse(ids: readonly string[]): Promise<void> {
    if (ids.length === 0 || this.#isClosing || !this.#parts.broker.connected) return
    // If that fails, it is noted after the next try.
    await this.#queue.excuse(ids.filter(id => this.#held.has(id))).catch(() => {})
  }

  async #finish(messages: readonly QueuedMessage[]): Promise<void> {
    await this.#queue.acknowledge(messages.map(({ id }) => id))
    for (const { id } of messages) this.#held.delete(id)
  }

  async #bury({ message, code, reason }: Sorted['dead'][number]): Promise<void> {
    const { id, tries } = message
    await this.#queue.bury(message, { code, message: reason, tries })
    this.#held.delete(id)
    this.#parts.intake.countDeadLetters()
    this.#died.tell({ id, code, reason })
  }

  // ── now and then ───────────────────────────────────────────────────────────────────────────────────────────────

  async #tend(): Promise<void> {
    if (this.#isTending) return
    this.#isTending = true
    try {
      this.#lag = await this.#queue.tend()
    } catch {
      this.#lag = undefined
    }
    this.#isTending = false
  }

  /** Forgets what another node has claimed meanwhile: it is published there. */
  async #keep(): Promise<void> {
    const ids = [...this.#held.keys()]
    if (this.#isKeeping) return
    this.#isKeeping = true
    try {
      if (this.#isLeading) await this.#lead()
      const own = ids.length > 0 ? await this.#queue.keep(ids) : new Set<string>()
      for (const id of ids) if (!own.has(id)) this.#held.delete(id)
    } catch {
      // Tried again at the next sign. If none succeeds, other nodes take them: Redis thinks that this one is gone.
    }
    this.#isKeeping = false
  }
}
