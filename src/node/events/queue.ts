import { within } from '../../broker/waiting.ts'
import type { EncodedEvent } from '../../protocol/event.ts'

/** What became of an event: it arrived, it has to be sent again, or it never will be taken. */
export type Fate = 'written' | 'again' | 'refused'

/** Why an event was lost: too much was waiting, the application ended, or the backend does not take it. */
export type Loss = 'full' | 'closed' | 'refused'

export interface QueueLimits {
  count: number
  bytes: number
}

export interface QueueParts {
  limits: QueueLimits
  /** The most that is sent at once. A larger event is sent alone. */
  batch: QueueLimits
  /** The longest pause between two attempts, in milliseconds. */
  maxPause: number
  /** One fate for each event, in their order; for all of them the same if it is one. Must not reject. */
  send(events: readonly EncodedEvent[]): Promise<readonly Fate[] | Fate>
  /** Writes what takes the place of lost events. */
  lostEvent(reasons: Record<string, number>): EncodedEvent
  sent(count: number): void
  lost(loss: Loss, count: number): void
}

/** An event that waits, or a hole: the mark where events were lost, which becomes an event when it is sent. */
class Entry {
  readonly bytes: number
  event: EncodedEvent | undefined
  /** How many were lost here, for each reason; undefined for an ordinary event. */
  readonly reasons: Record<string, number> | undefined
  #settle: ((isWritten: boolean) => void) | undefined
  isSettled = false

  /** A hole costs nothing: there is at most one after each event. */
  constructor(event: EncodedEvent | undefined, settle?: (isWritten: boolean) => void) {
    this.event = event
    this.reasons = event ? undefined : {}
    this.bytes = event ? Buffer.byteLength(event.json) + ENTRY_COST : 0
    this.#settle = settle
  }

  add(loss: Loss): void {
    this.reasons![loss] = (this.reasons![loss] ?? 0) + 1
  }

  settle(isWritten: boolean): void {
    if (this.isSettled) return
    this.isSettled = true
    this.#settle?.(isWritten)
    this.#settle = undefined
  }
}

/** About what an entry costs besides its JSON. */
const ENTRY_COST = 200

const FIRST_PAUSE = 100

/**
 * Events on their way to one place, in order: a batch at a time, again and again until it arrived. What finds no room is
 * lost: nothing that was taken in is dropped for something newer, so that a client can be told at once.
 */
export class EventQueue {
  readonly #parts: QueueParts
  #entries: Entry[] = []
  #bytes = 0
  /** How many at the head are being sent. */
  #sending = 0
  #isRunning = false
  #isClosed = false
  #endPause = () => {}
  #onIdle = () => {}

  constructor(parts: QueueParts) {
    this.#parts = parts
  }

  /** How many have not arrived yet. */
  get size(): number {
    return this.#entries.length
  }

  /** `settle` is called once, with whether the event arrived. */
  push(event: EncodedEvent, settle?: (isWritten: boolean) => void): void {
    const entry = new Entry(event, settle)
    const { limits } = this.#parts
    const hasRoom = this.#entries.length < limits.count && this.#bytes + entry.bytes <= limits.bytes
    if (this.#isClosed || !hasRoom) {
      this.#lose(this.#isClosed ? 'closed' : 'full')
      return entry.settle(false)
    }
    this.#bytes += entry.bytes
    this.#entries.push(entry)
    this.#wake()
  }

  /** Leaves a mark at the end. One that is being sent has said already how many it stands for. */
  #lose(loss: Loss): void {
    this.#parts.lost(loss, 1)
    if (this.#isClosed) return
    let hole = this.#entries.length > this.#sending ? this.#entries.at(-1) : undefined
    if (!hole?.reasons) {
      hole = new Entry(undefined)
      this.#entries.push(hole)
      this.#wake()
    }
    hole.add(loss)
  }

  #wake(): void {
    if (this.#isRunning) return
    this.#isRunning = true
    // Events of one turn of the event loop are sent together.
    setImmediate(() => void this.#run())
  }

  async #run(): Promise<void> {
    while (this.#entries.length > 0 && !this.#isClosed) {
      this.#sending = this.#batchSize()
      await this.#sendHead()
      this.#sending = 0
    }
    this.#isRunning = false
    this.#onIdle()
  }

  #batchSize(): number {
    const { batch } = this.#parts
    let bytes = 0
    let size = 0
    for (const entry of this.#entries) {
      bytes += entry.bytes
      if (size >= batch.count || (size > 0 && bytes > batch.bytes)) break
      size++
    }
    return size
  }

  /** Sends the head until each of its events has a fate. */
  async #sendHead(): Promise<void> {
    const head = this.#entries.slice(0, this.#sending)
    for (const entry of head) if (entry.reasons) entry.event = this.#parts.lostEvent(entry.reasons)
    let open: readonly Entry[] = head
    for (let pause = FIRST_PAUSE; !this.#isClosed; pause = Math.min(pause * 2, this.#parts.maxPause)) {
      const fates = await this.#parts.send(open.map(({ event }) => event!))
      // Closing has counted what was left.
      if (this.#isClosed) return
      open = open.filter((entry, i) => !this.#isSettled(entry, typeof fates === 'string' ? fates : fates[i]))
      if (open.length === 0) break
      // With jitter, so that nodes do not come back together.
      await this.#pause(pause * (0.5 + Math.random() / 2))
    }
    if (this.#isClosed) return
    this.#entries.splice(0, this.#sending)
    for (const { bytes } of head) this.#bytes -= bytes
  }

  #isSettled(entry: Entry, fate: Fate | undefined): boolean {
    if (fate === 'written') this.#parts.sent(1)
    // A refused hole leaves no other one: the backend would refuse that too, for ever.
    else if (fate === 'refused' && !entry.reasons) this.#lose('refused')
    else if (fate !== 'refused') return false
    entry.settle(fate === 'written')
    return true
  }

  #pause(milliseconds: number): Promise<void> {
    return new Promise(resolve => {
      if (this.#isClosed) return resolve()
      const timer = setTimeout(resolve, milliseconds)
      this.#endPause = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  /** Waits until all is sent, at most `milliseconds`. Whatever is left then is lost. */
  async close(milliseconds: number): Promise<void> {
    if (this.#isRunning) {
      const idle = new Promise<void>(resolve => {
        this.#onIdle = resolve
      })
      this.#endPause()
      await within(milliseconds, idle)
    }
    this.#isClosed = true
    this.#endPause()
    const left = this.#entries.splice(0).filter(({ isSettled }) => !isSettled)
    const lost = left.filter(({ reasons }) => !reasons).length
    if (lost > 0) this.#parts.lost('closed', lost)
    for (const entry of left) entry.settle(false)
    this.#bytes = 0
  }
}
