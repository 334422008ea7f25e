import { within } from '../broker/waiting.ts'
import type { Ingress, IngressParts, OpenIngress } from './ingress.ts'
import type { Intake } from './intake.ts'

/** What `status()` says of a road. */
export interface IngressStatus {
  name: string
  /** Messages that wait in the queue; undefined if the road does not know. */
  lag: number | undefined
  /** Why nothing comes in; undefined while it works. */
  problem: string | undefined
}

type Parts = Omit<IngressParts, 'intake'> & { intakeOf(road: Ingress): Intake }

/** Milliseconds that a road has to close, besides twice `closeTimeout`: those of its commands that run out of time. */
const CLOSE_REST = 5000

const NOT_OPEN = 'it is not open: this node has not started yet, or is closing'

/** The roads of one registration, from its start to its end. */
export class Roads {
  readonly #roads: readonly Ingress[]
  readonly #parts: Parts
  readonly #open = new Map<Ingress, OpenIngress>()
  #isClosed = false

  constructor(roads: readonly Ingress[], parts: Parts) {
    this.#roads = roads
    this.#parts = parts
  }

  /** One after the other. Rejects if a road will never work, and then none stays open. */
  async open(): Promise<void> {
    const { intakeOf, ...parts } = this.#parts
    try {
      for (const road of this.#roads) {
        if (this.#isClosed) return
        const opened = await road.open({ ...parts, intake: intakeOf(road) })
        this.#open.set(road, opened)
        // It was closed while this road opened, and nobody else would close it.
        if (this.#isClosed) await this.close()
      }
    } catch (error) {
      await this.close()
      throw error
    }
  }

  get status(): IngressStatus[] {
    return this.#roads.map(road => {
      const { lag, problem } = this.#open.get(road) ?? { lag: undefined, problem: NOT_OPEN }
      return { name: road.name, lag, problem }
    })
  }

  /** By name, for those that know. */
  get lag(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.status.flatMap(({ name, lag }) => (lag === undefined ? [] : [[name, lag]])))
  }

  /** Never rejects: one that cannot be closed must not keep the others, and the connections, from it. */
  async close(): Promise<void> {
    this.#isClosed = true
    const open = [...this.#open.entries()]
    this.#open.clear()
    await Promise.all(open.map(entry => this.#closeOne(...entry)))
  }

  async #closeOne({ name }: Ingress, opened: OpenIngress): Promise<void> {
    const { closeTimeout, log } = this.#parts
    const most = 2 * closeTimeout + CLOSE_REST
    const failed = (error: unknown) => log.error({ ingress: name, err: error }, 'push: an ingress could not be closed')
    const close = async () => {
      await opened.close()
    }
    const ended = close()
      .catch(failed)
      .then(() => true)
    if (!(await within(most, ended))) failed(new Error(`it did not close within ${most} ms`))
  }
}
