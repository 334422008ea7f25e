import { setTimeout as sleep } from 'node:timers/promises'
import type { Broker, Incoming, NodeAnswer } from '../broker/broker.ts'
import { isTraced, type NodeStep } from '../broker/trace-steps.ts'
import type { Connection } from '../connection/connection.ts'
import type { Publication } from '../protocol/envelope.ts'
import type { Acknowledgements } from './acks.ts'
import type { Skipped } from './fan-out.ts'

/** What became of a publication with a receipt. */
export interface Reached {
  reached: readonly Connection[]
  skipped: Skipped
}

/** Publications whose writing is followed at the same time, and connections of each: further ones are not waited for. */
const MAX_FOLLOWED = 20
const MAX_CONNECTIONS = 200

const FIRST_LOOK = 1
const LONGEST_WAIT = 50

/** Tells the publisher who waits for a receipt what this node did. */
export class ReceiptWriter {
  readonly #broker: Pick<Broker, 'answer'>
  readonly #acks: Acknowledgements<Connection>
  #followed = 0
  #isClosed = false

  constructor({ broker, acks }: { broker: Pick<Broker, 'answer'>; acks: Acknowledgements<Connection> }) {
    this.#broker = broker
    this.#acks = acks
  }

  /** `receivedAt`: when it came, in milliseconds since 1970. */
  publication(incoming: Incoming, publication: Publication, done: Reached, receivedAt: number): void {
    const { receipt, ack, ext } = publication
    if (receipt === undefined) return
    const isFollowed = isTraced(ext)
    if (!ack && !isFollowed) return this.write(incoming, receipt, { delivered: done.reached.length }, done.skipped)
    const trace = isFollowed ? stepsSoFar(done, receivedAt) : undefined
    void this.#later(incoming, receipt, { ...done, ack, trace })
  }

  async #later(
    incoming: Incoming,
    receipt: string,
    { reached, skipped, ack, trace }: Reached & { ack: boolean; trace: NodeStep[] | undefined },
  ): Promise<void> {
    const able = () => reached.filter(({ transport }) => transport !== 'sse')
    const acknowledging = ack ? this.#acks.collect(receipt, able()) : undefined
    const writing = trace ? this.#written(reached) : undefined
    const [acknowledged, steps = []] = await Promise.all([acknowledging, writing])
    if (trace && acknowledged !== undefined) {
      steps.push({ at: Date.now(), what: 'acknowledged', connections: acknowledged })
    }
    const counts = { delivered: reached.length, ...(acknowledged !== undefined && { acknowledged }) }
    this.write(incoming, receipt, { ...counts, ...(trace && { trace: [...trace, ...steps] }) }, skipped)
  }

  write(
    incoming: Incoming,
    receipt: string | undefined,
    counts: Pick<NodeAnswer, 'delivered' | 'acknowledged' | 'trace'>,
    reasons: Skipped,
  ): void {
    if (receipt === undefined) return
    const skipped = Object.values(reasons).reduce((sum, count) => sum + count, 0)
    this.#broker.answer(incoming, receipt, { ...counts, skipped, ...(skipped > 0 && { reasons }) })
  }

  /** Looks until the sockets have taken all that waits for these connections, but no longer than clients may take. */
  async #written(reached: readonly Connection[]): Promise<NodeStep[]> {
    const followed = reached.slice(0, MAX_CONNECTIONS)
    let open = followed
    if (followed.length === 0 || this.#followed >= MAX_FOLLOWED) return []
    this.#followed++
    const deadline = performance.now() + this.#acks.timeout
    for (let wait = FIRST_LOOK; open.length > 0; wait = Math.min(wait * 2, LONGEST_WAIT)) {
      const left = deadline - performance.now()
      if (left <= 0 || this.#isClosed) break
      await sleep(Math.min(wait, left), undefined, { ref: false })
      open = open.filter(connection => connection.buffered > 0 && !connection.isClosing)
    }
    this.#followed--
    const at = Date.now()
    // What waited for them was discarded, not written.
    const closed = followed.filter(connection => connection.isClosing).length
    const steps: NodeStep[] = [{ at, what: 'written', connections: followed.length - open.length - closed }]
    if (closed > 0) steps.push({ at, what: 'skipped', connections: closed, reason: 'closing' })
    if (open.length > 0) steps.push({ at, what: 'waiting', connections: open.length })
    return steps
  }

  close(): void {
    this.#isClosed = true
  }
}

function stepsSoFar({ reached, skipped }: Reached, receivedAt: number): NodeStep[] {
  const at = Date.now()
  const left = Object.entries(skipped).map(
    ([reason, connections]): NodeStep => ({ at, what: 'skipped', connections, reason }),
  )
  return [{ at: receivedAt, what: 'received' }, { at, what: 'queued', connections: reached.length }, ...left]
}
